"""The arena's command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import circumstances, command_line
from benchmarks.reporting import write_json
from experiments import arena
from experiments.arena.base import make_ground, reward_model
from experiments.arena.cells import Arena, Cell, Protocol, field_of, solved
from experiments.arena.ledger import ledger
from experiments.arena.methods import BASELINE, METHODS, Method
from experiments.arena.page import write_arena
from experiments.arena.table import accuracy_table, best_of_rows, best_of_table, cost_table, pass_table, rows
from experiments.harness.cells import best_rate
from experiments.harness.pages import markdown

MODULE, OUT = "experiments.arena", Path("runs/arena")
RATES = (1e-5, 3e-5, 1e-4, 3e-4)
DEVELOPMENT_SEED = 100
QUICK = Protocol(steps=8, development=60, test=80, sampled=24, samples=8, kl_samples=4, best_of=16)


def tuned(methods: Sequence[Method]) -> list[Method]:
    """Those of whom a learning rate is chosen: options of PDPO take PDPO's."""
    models = {m.tuned_as for m in methods}
    return [m for m in METHODS.values() if m.name in models or (m in methods and not m.tuned_as)]


def trial(method: Method, rate: float) -> Cell:
    """The cell that shows how good a rate is."""
    return Cell(method, rate, DEVELOPMENT_SEED, "development", looks=1, many=False)


def main() -> None:
    """Read the command line, train what is missing, print, write."""
    quick = "everything, small and with one rate and two seeds"
    parser = command_line(MODULE, arena.__doc__, OUT, page="docs/arena.md", quick=quick)
    parser.add_argument("--task", default="shop", help="shop, or boxes to confirm")
    parser.add_argument("--only", default="", help="methods, parted by semicolons; DPO is always there")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--plots", type=Path, help="a folder for the drawings, as docs/arena")
    parser.add_argument("--no-ledger", action="store_true", help="leave out memory and operations per step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [n.strip() for n in options.only.split(";")] if options.only else list(METHODS)
    if unknown := set(names) - set(METHODS):
        parser.error(f"not in the arena: {', '.join(sorted(unknown))}; known: {'; '.join(METHODS)}")
    methods = [METHODS[name] for name in dict.fromkeys((BASELINE, *names))]
    protocol = QUICK if options.quick else Protocol()
    protocol = replace(protocol, ground=replace(protocol.ground, task=options.task))
    facts = circumstances(MODULE)
    found = {**facts, **compared(options.out, protocol, methods, options)}
    tables = (
        accuracy_table(found["rows"]),
        pass_table(found["rows"]),
        cost_table(found["rows"]),
        best_of_table(found["best_of"]),
    )
    print("\n".join(map(markdown, tables)))
    write_arena(found, options.page, options.plots)
    if options.json:
        write_json(options.json, found)


def compared(out: Path, protocol: Protocol, methods: Sequence[Method], options: Any) -> dict[str, Any]:
    """Every figure of `methods`, the base and best of N."""
    seeds = range(2 if options.quick else options.seeds)
    here = make_ground(out, protocol.ground)
    for seed in (DEVELOPMENT_SEED, *seeds):  # what several workers would otherwise make at once
        reward_model(here, protocol.ground, seed)
    bench = Arena(out, protocol)
    field = field_of(bench, partial(Arena, out, protocol), options.workers)
    trials = {m.name: [trial(m, r) for r in (RATES[2:3] if options.quick else RATES)] for m in tuned(methods)}
    scores = field.scores(trials, solved)
    rates = {m.name: best_rate(scores[m.tuned_as or m.name]) for m in methods}
    cells = {m.name: [Cell(m, rates[m.name], seed) for seed in seeds] for m in methods}
    field.play([c for each in cells.values() for c in each])
    played = {name: field.play(each) for name, each in cells.items()}
    base = bench.base_cell()
    return {
        "rows": rows(played, base, protocol.samples, {m.name: (m, rates[m.name]) for m in methods}),
        "looks": {name: [r["looks"] for r in results] for name, results in played.items()},
        "base": base,
        "tried": {m.name: scores[m.name] for m in methods if not m.tuned_as},
        "best_of": best_of_rows([bench.best_of_n(seed) for seed in seeds]),
        "ledger": [] if options.no_ledger else ledger(bench),
        "protocol": protocol,
        "seeds": len(seeds),
    }


if __name__ == "__main__":
    main()
