"""The files of `twofold tune`: a recipe for each method with as many steps as its budget allows, and four points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType
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
NONE: Point = MappingProxyType({})
OURS = ("part", "cluster")
"""Keys of rows that only this comparison reads."""


def write_tune(bench: Bench, names: Sequence[str], more: Point = NONE) -> Path:
    """Write `tune.yaml` and its recipes, into a folder of its own unless `names` are all methods. The values of `more`
    are added to every sweep that has their keys. Each method is trained once, at its first point, to count a budget's
    steps."""
    folder = bench.here / "tune"
    if set(names) != METHODS.keys():
        folder /= "+".join(map(slug, names))
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    budget = 0
    for name in names:
        method = METHODS[name]
        cell = Cell(name, method.grid[0], DEVELOPMENT_SEED, "development")
        sections = bench.sections(method, cell.point, DEVELOPMENT_SEED)
        steps = max(1, steps_of(bench, name) or bench.result(cell)["steps"])
        sections["training"] = {**sections["training"], "steps": steps}
        del sections["run"]
        path = folder / f"{slug(name)}.yaml"
        path.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")
        sweep = {key: [*values] for key, values in method.sweep.items()}
        for key in sweep.keys() & more.keys():
            sweep[key] = sorted({*sweep[key], more[key]})
        entries.append({"recipe": str(path), "name": name, "sweep": sweep})
        budget = max(budget, prod(map(len, sweep.values())) * steps)  # every grid fits
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
        "budget": {"steps": budget},
        "out": str(folder / "out"),
    }  # fmt: skip
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def steps_of(bench: Bench, name: str) -> int | None:
    """The steps of a budget, of any development cell of the method: they hardly depend on the point."""
    found = ledger.finished(bench.ledger, bench.protocol)
    cells = by_method(found, bench.task.name, "development", own=tuned(bench))
    return next((reply["steps"] for reply in cells.get(name, {}).values()), None)


def tuned(bench: Bench) -> Mapping[str, Point]:
    """By method the point that `twofold tune` chose; empty before it has run. A sweep of named methods replaces what
    that of all methods chose."""
    folder = bench.here / "tune"
    found: dict[str, Point] = {}
    for path in (*folder.glob("out/results.json"), *sorted(folder.glob("*/out/results.json"))):
        for method in read_json(path)["methods"]:
            chosen = (t["values"] for t in method["trials"] if t["number"] == method["winner"])
            for values in chosen:  # none, if every point was out
                found[method["name"]] = {key: float(value) for key, value in values.items()}
    return found


def point_of(bench: Bench, name: str) -> Point:
    """The tuned point of a method, or of the one it is tuned as; else the first one. A player has none."""
    if name not in ALL:
        return {}
    name = ALL[name].tuned_as or name
    return tuned(bench).get(name, METHODS[name].grid[0])
