"""The comparison's command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import circumstances, command_line
from benchmarks.reporting import median_interval, print_table, write_json
from experiments import family
from experiments.family.cells import Bench, Cell, Protocol
from experiments.family.curves import curve
from experiments.family.methods import Method, methods
from experiments.family.page import Row, compared, merged, terminal, text
from experiments.harness.cells import Field, Result, best_rate
from experiments.harness.files import read_json
from experiments.harness.pages import between, marks, put

MODULE, OUT = "experiments.family", Path("runs/family")
CURVES = Path("docs/objectives/curves")
RATES = (5e-6, 2e-5, 8e-5)
BASELINE = "dpo"


def trained(field: Field[Cell], bench: Bench, method: Method, seeds: int) -> tuple[list[Cell], dict[str, float]]:
    """A cell per seed at the best rate, which the first seed chooses; and how many problems each rate solved."""
    trials = [Cell(method, rate, 0) for rate in RATES]
    scores = field.scores({method.name: trials}, lambda result: result["solved"])[method.name]
    rate = best_rate(scores)
    for cell in trials:
        if cell.learning_rate != rate:
            bench.forget(cell)
    cells = [Cell(method, rate, seed) for seed in range(seeds)]
    field.play(cells)
    return cells, scores


def baseline(bench: Bench, method: Method, seeds: int, stored: Path) -> dict[str, Any] | None:
    """DPO's figures as an earlier comparison stored them beside its curves, where they are of this protocol."""
    if not stored.is_file():
        return None
    found = read_json(stored)
    same = (found["protocol"], found["settings"]) == (asdict(bench.protocol), repr(method.objective))
    return found if same and len(found["judged"]) >= seeds else None


def figures(field: Field[Cell], bench: Bench, method: Method, seeds: int) -> dict[str, Any]:
    """What DPO came to, as it is stored."""
    cells, _ = trained(field, bench, method, seeds)
    judged = [bench.judged(cell) for cell in cells]
    return {
        "protocol": asdict(bench.protocol),
        "settings": repr(method.objective),
        "learning_rate": cells[0].learning_rate,
        "evaluations": field.play(cells[:1])[0]["evaluations"],
        "judged": [{"right": [int(r) for r in each["right"]]} for each in judged],
    }


def main() -> None:
    """Read the command line, train what is missing, print, write."""
    parser = command_line(MODULE, family.__doc__, OUT, page="docs/family.md")
    parser.add_argument("--only", default="", help="kinds, parted by commas, beside dpo; the page keeps its other rows")
    parser.add_argument("--seeds", type=int, default=1, help="orders of the data; the first chooses the learning rate")
    parser.add_argument("--turns", type=int, default=7, help="paired steps for the ratio of times")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--curves", type=Path, help=f"a folder for one SVG per method, as {CURVES}")
    parser.add_argument("--quick", action="store_true", help="a few steps, few problems: does it run")
    options = parser.parse_args()
    known = methods()
    kinds = options.only.split(",") if options.only else list(known)
    if unknown := set(kinds) - set(known):
        parser.error(f"not compared here: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    torch.set_num_threads(1)
    about = circumstances(MODULE)
    protocol = Protocol(steps=8, problems=24, test=24) if options.quick else Protocol()
    make = partial(Bench, options.out, protocol)
    bench = make()
    field = Field[Cell](bench, make, _summary, options.workers)
    rows = _compared(field, bench, [known[kind] for kind in kinds], options)
    print_table("Demo task", [terminal(row) for row in rows])
    about |= {"heldout": len(bench.unseen), "train": len(bench.rows)}
    if options.page:
        own, written = marks(f"python -m {MODULE}"), text(rows, bench.protocol, about)
        put(options.page, own, merged(between(options.page, own), written) if options.only else written)
    if options.json:
        write_json(options.json, {**about, "protocol": bench.protocol, "rows": rows})


def _summary(result: Result) -> str:
    return result.get("failed") or f"{result['solved']} solved"


def _compared(field: Field[Cell], bench: Bench, chosen: Sequence[Method], options: argparse.Namespace) -> list[Row]:
    """A row per method, drawn too where that is wanted; the base's own where all are compared. DPO is trained where it
    is one of them, or nobody stored its figures."""
    dpo, stored = methods()[BASELINE], (options.curves or CURVES) / f"{BASELINE}.json"
    against = None if dpo in chosen else baseline(bench, dpo, options.seeds, stored)
    against = against or figures(field, bench, dpo, options.seeds)
    if options.curves:
        options.curves.mkdir(parents=True, exist_ok=True)
        if dpo in chosen:
            stored.write_text(json.dumps(against) + "\n", encoding="utf-8")
    right = [[bool(r) for r in each["right"]] for each in against["judged"]][: options.seeds]
    rows = [] if options.only else [compared("base", [bench.judged(None)], right)]
    for method in chosen:
        cells, scores = trained(field, bench, method, options.seeds)
        if options.curves:
            _draw(options.curves, cells[0], field.play(cells[:1])[0]["evaluations"], against)
        row = compared(method.name, [bench.judged(c) for c in cells], right)
        ratios = bench.timed(cells[0], Cell(dpo, against["learning_rate"], 0), options.turns)
        row.learning_rate, row.time = cells[0].learning_rate, median_interval(ratios)
        row.tried, row.settings = scores, repr(method.objective)
        rows.append(row)
    return rows


def _draw(folder: Path, cell: Cell, evaluations: Sequence[Mapping[str, float]], dpo: Mapping[str, Any]) -> None:
    kind = cell.method.name
    drawing = curve(kind, evaluations, dpo["evaluations"], cell.learning_rate)
    (folder / f"{kind}.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
