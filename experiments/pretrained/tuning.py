"""The files of `twofold tune`: a recipe for each method with as many steps as its budget allows, and four points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.harness.files import read_json, read_rows, write_rows
from experiments.pretrained import ledger
from experiments.pretrained.cells import Bench, Cell
from experiments.pretrained.methods import ALL, METHODS, Point
from experiments.pretrained.protocol import DEVELOPMENT_SEED, MAX_KL
from experiments.pretrained.table import by_method
from twofold.runs.tuning.grid import slug

CONFIRMED = 3
"""Of the development rows, one in this many confirms the winners."""
POINTS = 4
"""Of each method. A run's tokens are the same for all methods, its steps are not, so the budget takes every grid."""
OURS = ("part", "cluster")
"""Keys of rows that only this comparison reads."""


def write_tune(bench: Bench, names: Sequence[str]) -> Path:
    """Write `tune.yaml` and its recipes. Each method is trained once, at its first point, to count a budget's steps."""
    folder = bench.here / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    steps: dict[str, int] = {}
    for name in names:
        method = METHODS[name]
        cell = Cell(name, method.grid[0], DEVELOPMENT_SEED, "development")
        sections = bench.sections(method, cell.point, DEVELOPMENT_SEED)
        steps[name] = max(1, steps_of(bench, name) or bench.result(cell)["steps"])
        sections["training"] = {**sections["training"], "steps": steps[name]}
        del sections["run"]
        path = folder / f"{slug(name)}.yaml"
        path.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")
        sweep = {key: list(values) for key, values in method.sweep.items()}
        entries.append({"recipe": str(path), "name": name, "sweep": sweep})
    rows = [{k: v for k, v in row.items() if k not in OURS} for row in read_rows(bench.here / "development.jsonl")]
    write_rows(folder / "development.jsonl", rows)
    development, cut = str(folder / "development.jsonl"), len(rows) - len(rows) // CONFIRMED
    settings = {
        "recipes": entries,
        "development": {"file": development, "limit": cut},
        "confirm": {"file": development, "skip": cut},
        "evaluate": {
            "task": "win-rate", "judge": bench.task.reward(bench.here), "against": bench.base, "temperature": 1.0,
            "max_new_tokens": bench.protocol.max_new_tokens, "reference": bench.base, "max_kl": MAX_KL,
        },
        "seeds": [DEVELOPMENT_SEED],
        "budget": {"steps": POINTS * max(steps.values())},
        "out": str(folder / "out"),
    }  # fmt: skip
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def steps_of(bench: Bench, name: str) -> int | None:
    """The steps of a budget, of any development cell of the method: they hardly depend on the point."""
    found = ledger.finished(bench.ledger, bench.protocol)
    cells = by_method(found, bench.task.name, "development", tuned=tuned(bench))
    return next((reply["steps"] for reply in cells.get(name, {}).values()), None)


def tuned(bench: Bench) -> Mapping[str, Point]:
    """By method the point that `twofold tune` chose; empty before it has run."""
    path = bench.here / "tune" / "out" / "results.json"
    found: dict[str, Point] = {}
    for method in read_json(path)["methods"] if path.is_file() else ():
        trial = next(t for t in method["trials"] if t["number"] == method["winner"])
        found[method["name"]] = {key: float(value) for key, value in trial["values"].items()}
    return found


def point_of(bench: Bench, name: str) -> Point:
    """The tuned point of a method, or of the one it is tuned as; else the first one. A player has none."""
    if name not in ALL:
        return {}
    name = ALL[name].tuned_as or name
    return tuned(bench).get(name, METHODS[name].grid[0])
