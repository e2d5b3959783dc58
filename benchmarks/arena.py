"""All methods on one field: `python -m benchmarks.arena` trains each with several seeds and compares it with DPO.

Same base, data, steps, optimizer and sampler; every method at the best of the same learning rates, chosen with a seed
and problems that no figure is taken from. Cells that are done are kept (`--out`), so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.arena_base import make_ground, reward_model
from benchmarks.arena_cells import Arena, Cell, Protocol
from benchmarks.arena_ledger import ledger
from benchmarks.arena_methods import BASELINE, METHODS, Method
from benchmarks.arena_page import write_arena
from benchmarks.arena_table import accuracy_table, best_of_rows, best_of_table, cost_table, markdown, pass_table, rows
from benchmarks.cells import play
from benchmarks.reporting import command, machine, page, print_facts, versions, write_json

OUT = Path("runs/arena")
RATES = (1e-5, 3e-5, 1e-4, 3e-4)
DEVELOPMENT_SEED = 100
QUICK = Protocol(steps=8, development=60, test=80, sampled=24, samples=8, kl_samples=4, best_of=16)


@dataclass
class Field:
    """The arena with its workers; every cell is played once, wherever it is asked for."""

    root: Path
    protocol: Protocol
    workers: int = 1
    arena: Arena = field(init=False)

    def __post_init__(self) -> None:
        self.arena = Arena(self.root, self.protocol)

    def play(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """The results of `cells`, in their order."""
        make = partial(Arena, self.root, self.protocol)
        return play(self.arena, cells, _told, workers=self.workers, make=make)

    def best_rates(self, methods: Sequence[Method], rates: Sequence[float]) -> dict[str, float]:
        """Each method's rate that solves most development problems; the lower one of equals. Options take PDPO's."""
        models = {m.tuned_as for m in methods}
        tuned = [m for m in METHODS.values() if m.name in models or (m in methods and not m.tuned_as)]
        cells = {m.name: [_trial(m, r) for r in rates] for m in tuned}
        if len(rates) > 1:
            self.play([c for each in cells.values() for c in each])
        chosen = {name: max(each, key=lambda c: (self.solved(c), -c.learning_rate)) for name, each in cells.items()}
        return {m.name: chosen[m.tuned_as or m.name].learning_rate for m in methods}

    def solved(self, cell: Cell) -> int:
        return sum(self.arena.cell(cell)["right"]) if self.arena.known(cell) else 0


def _trial(method: Method, rate: float) -> Cell:
    """The cell that tells how good a rate is."""
    return Cell(method, rate, DEVELOPMENT_SEED, "development", looks=1, many=False)


def _told(found: dict[str, Any]) -> str:
    return found.get("failed") or f"{sum(found['right']) / len(found['right']):.3f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arena", description=__doc__)
    parser.add_argument("--task", default="shop", help="shop, or boxes to confirm")
    parser.add_argument("--only", default="", help="methods, parted by semicolons; DPO is always there")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what is done already")
    parser.add_argument("--page", type=page, help="a page between whose marks to write, as docs/arena.md")
    parser.add_argument("--plots", type=Path, help="a folder for the drawings, as docs/arena")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--quick", action="store_true", help="everything, small and with one rate and two seeds")
    parser.add_argument("--no-ledger", action="store_true", help="leave out memory and operations per step")
    return parser


def main() -> None:
    """Read the command line, play what is missing, print, write."""
    parser = _parser()
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = [n.strip() for n in asked.only.split(";")] if asked.only else list(METHODS)
    if unknown := set(names) - set(METHODS):
        parser.error(f"not in the arena: {', '.join(sorted(unknown))}; known: {'; '.join(METHODS)}")
    methods = [METHODS[name] for name in dict.fromkeys((BASELINE, *names))]
    protocol = QUICK if asked.quick else Protocol()
    protocol = replace(protocol, ground=replace(protocol.ground, task=asked.task))
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    seeds = range(2 if asked.quick else asked.seeds)
    _prepare(asked.out, protocol, seeds)
    ground = Field(asked.out, protocol, asked.workers)
    rates = ground.best_rates(methods, RATES[2:3] if asked.quick else RATES)
    cells = {m.name: [Cell(m, rates[m.name], seed) for seed in seeds] for m in methods}
    ground.play([c for each in cells.values() for c in each])
    found: dict[str, Any] = {
        "rows": rows(
            {name: ground.play(each) for name, each in cells.items()},
            ground.arena.base_cell(),
            protocol.samples,
            {m.name: (m, rates[m.name]) for m in methods},
        ),
        "looks": {name: [r["looks"] for r in ground.play(each)] for name, each in cells.items()},
        "base": ground.arena.base_cell(),
        "tried": {m.name: {f"{r:g}": ground.solved(_trial(m, r)) for r in RATES} for m in methods if not m.tuned_as},
        "best_of": best_of_rows([ground.arena.best_of_n(seed) for seed in seeds]),
        "ledger": [] if asked.no_ledger else ledger(ground.arena),
        "protocol": protocol, "date": datetime.date.today().isoformat(), **facts,
        "command": command("benchmarks.arena", sys.argv[1:]), "seeds": len(seeds),
    }  # fmt: skip
    for title in ("machine", "versions"):
        print_facts(title, found[title])
    tables = (
        accuracy_table(found["rows"]),
        pass_table(found["rows"]),
        cost_table(found["rows"]),
        best_of_table(found["best_of"]),
    )
    print("\n".join(map(markdown, tables)))
    write_arena(found, asked.page, asked.plots)
    if asked.json:
        write_json(asked.json, found)


def _prepare(out: Path, protocol: Protocol, seeds: Sequence[int]) -> None:
    """What several workers would otherwise make at once."""
    here = make_ground(out, protocol.ground)
    for seed in (DEVELOPMENT_SEED, *seeds):
        reward_model(here, protocol.ground, seed)


if __name__ == "__main__":
    main()
