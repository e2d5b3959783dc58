"""Every method on one task: `python -m benchmarks.family` trains all that learn from preferences on the demo's pairs.

Same base model, same pairs in the same order, same steps, same optimizer; each method with its paper's knobs and at the
best of the same learning rates, chosen on problems that no method trains on and no figure is taken from. What is done
is kept under runs/family, so that a stopped comparison goes on. Writes its page (`--page`) and curves (`--curves`).
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.family_cells import Bench, Cell, Protocol
from benchmarks.family_curves import curve
from benchmarks.family_page import Row, markdown, terminal, write_page
from benchmarks.reporting import machine, median_interval, page, print_facts, print_table, versions, write_json
from twofold.cli.progress import RichProgress
from twofold.objectives import NCA, RPO, SPPO, AnyObjective, CalDPO, OnPairs
from twofold.objectives.base import Objective
from twofold.statistics import Estimate, mcnemar, paired_bootstrap, wilson

OUT = Path("runs/family")
RATES = (5e-6, 2e-5, 8e-5)
COLUMNS = frozenset({"ref_logp", "z0"})
"""What the demo's pairs can have beside their tokens."""
KNOBS: Mapping[type, tuple[dict[str, Any], str]] = {
    CalDPO: (
        {"beta": 0.1},
        "targets of ±5 nats: ±500, as 0.001 has it, is for hundreds of tokens, and these answers have 10 to 25",
    ),
    SPPO: ({"eta": 10.0}, "targets ±5 nats, for the same reason (1000 makes them ±500)"),
    NCA: ({"beta": 0.1}, "as DPO here; its 0.01 is for long answers"),
    RPO: ({"beta": 0.1, "eta": 0.05}, "β as DPO here, η/β as in the paper"),
}
"""Settings that are not the class's own defaults (its paper's), and why."""


def applies(objective: Objective) -> bool:
    """Whether the demo's pairs, and the reference, are all that `objective` asks for: the rule for being here. Drafts,
    reward heads, moving averages and third answers are other comparisons."""
    asked = set(objective.requires) <= COLUMNS
    return asked and objective.reads == "logps" and objective.data_kind != "triples"


def methods() -> dict[str, Objective]:
    """Every member of the union to which the comparison applies, by kind; those on pairs first."""
    members = [*get_args(OnPairs), *(m for m in get_args(AnyObjective) if m not in get_args(OnPairs))]
    found: list[Objective] = [m(**KNOBS.get(m, ({}, ""))[0]) for m in members]
    return {o.kind: o for o in found if applies(o)}  # type: ignore[attr-defined]  # members of the union have a kind


@dataclass
class Family:
    """The comparison: cells in a folder, and what they come to."""

    bench: Bench
    seeds: int
    found: dict[str, list[Cell]] = field(default_factory=dict[str, list[Cell]])

    def best(self, objective: Objective) -> Cell:
        """The cell of the learning rate that solves most problems set aside for the choice; the lower one of equals."""
        cells = [Cell(objective, rate, 0) for rate in RATES]
        solved = [self.bench.cell(cell)["solved"] for cell in cells]
        chosen = cells[solved.index(max(solved))]
        for cell in cells:
            if cell != chosen:
                self.bench.forget(cell)
        return chosen

    def run(self, objective: Objective) -> list[Cell]:
        """Train and judge one method, one cell per seed."""
        first = self.best(objective)
        cells = [Cell(objective, first.learning_rate, seed) for seed in range(self.seeds)]
        for cell in cells:
            self.bench.cell(cell)
            self.bench.judged(cell)
        self.found[str(objective.kind)] = cells  # type: ignore[attr-defined]  # of the union
        return cells

    def rows(self, kinds: Sequence[str], turns: int) -> list[Row]:
        """The table: the base, then a row per method."""
        base = self.bench.judged(None)
        dpo = self.found["dpo"]
        against = [self.bench.judged(c)["right"] for c in dpo]
        rows = [self._row("base", [base], against)]
        for kind in kinds:
            cells = self.found[kind]
            ratios = self.bench.timed(cells[0], dpo[0], turns)
            row = self._row(kind, [self.bench.judged(c) for c in cells], against)
            row.learning_rate, row.time = cells[0].learning_rate, median_interval(ratios)
            row.tried = {f"{r:g}": self.bench.cell(Cell(cells[0].objective, r, 0))["solved"] for r in RATES}
            row.settings = repr(cells[0].objective)
            rows.append(row)
        return rows

    def _row(self, kind: str, judged: Sequence[dict[str, Any]], against: Sequence[list[bool]]) -> Row:
        right = [j["right"] for j in judged]
        test = mcnemar(against[0], right[0]) if kind != "dpo" else None
        gain = paired_bootstrap(against, right) if len(right) > 1 and kind not in ("dpo", "base") else None
        shares = [sum(r) / len(r) for r in right]
        return Row(
            kind=kind,
            solved=wilson(sum(right[0]), len(right[0])),
            seeds=shares,
            test=test,
            gain=gain,
            kl=Estimate(**judged[0]["kl"]),
            chosen=Estimate(**judged[0]["chosen"]),
            rejected=Estimate(**judged[0]["rejected"]),
            truncated=judged[0]["truncated"],
        )


def main() -> None:
    """Read the command line, train what is missing, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.family", description=__doc__)
    parser.add_argument("--only", default="", help="kinds, parted by commas; dpo is always there to compare with")
    parser.add_argument("--seeds", type=int, default=1, help="orders of the data; the first chooses the learning rate")
    parser.add_argument("--turns", type=int, default=7, help="paired steps for the ratio of times")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what is done already")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--page", type=page, help="a page between whose marks to write the table, as docs/family.md")
    parser.add_argument("--curves", type=Path, help="a folder for one SVG per method, as docs/objectives/curves")
    asked = parser.parse_args()
    known = methods()
    kinds = asked.only.split(",") if asked.only else list(known)
    if unknown := set(kinds) - set(known):
        parser.error(f"not compared here: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    torch.set_num_threads(1)
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    for title, values in facts.items():
        print_facts(title, values)
    with RichProgress() as progress:
        family = Family(Bench(asked.out, Protocol(), progress), asked.seeds)
        for kind in dict.fromkeys(("dpo", *kinds)):
            cells = family.run(known[kind])
            solved = sum(family.bench.judged(cells[0])["right"])
            progress.note(f"{kind}: {solved} solved at {cells[0].learning_rate:g}")
        rows = family.rows(kinds, asked.turns)
        if asked.curves:
            _draw(family, kinds, asked.curves)
    print_table("Demo task", [terminal(row) for row in rows])
    about = {
        "command": "python -m benchmarks.family" + (f" --seeds {asked.seeds}" if asked.seeds > 1 else ""),
        "date": datetime.date.today().isoformat(),
        "machine": f"{facts['machine']['processor']}, torch {facts['versions']['torch']}, one thread",
        "held": str(len(family.bench.held)),
        "train": str(len(family.bench.train)),
    }
    if asked.page:
        write_page(asked.page, markdown(rows, family.bench.protocol, about))
    if asked.json:
        write_json(asked.json, {**facts, **about, "protocol": family.bench.protocol, "rows": rows})


def _draw(family: Family, kinds: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    of_dpo = family.bench.cell(family.found["dpo"][0])["evaluations"]
    for kind in kinds:
        cell = family.found[kind][0]
        drawing = curve(kind, family.bench.cell(cell)["evaluations"], of_dpo, cell.learning_rate)
        (folder / f"{kind}.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
