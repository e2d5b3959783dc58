"""Two models of an earlier evaluation on the same items: how often they differ, by which a new one is planned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from twofold import disk
from twofold.errors import DataError

ITEM_KEYS = ("name", "prompt", "source")
"""What names an item, the first of them that a row has."""
FEWEST = 10
MOST_BYTES = 2**30
NAMED_ELSEWHERE = ("truncated", "tokens", "cut", "step")
"""Values of rows that are no metric."""

Values = dict[str, float]


@dataclass(frozen=True)
class Earlier:
    """Two models on `n` common items by `metric`: the mean of the first, the share of items on which only one is right
    (None where the metric is no verdict), and the standard deviation of an item's difference."""

    models: tuple[str, str]
    metric: str
    n: int
    base: float
    discordance: float | None
    deviation: float


def earlier(files: Sequence[Path], metric: str | None = None) -> Earlier:
    """From rows.jsonl of `twofold evaluate --out`: one file with two models, or two files whose first models are
    compared. Several rows of an item are averaged. Raises DataError for anything else."""
    where, remedy = ", ".join(map(str, files)), "name rows.jsonl of `twofold evaluate --out`"
    tables = [_models(path) for path in files]
    named = metric or _metric(tables[0])
    sides = [(name, _values(rows, named)) for table in tables for name, rows in _sides(table, len(files))]
    if len(sides) != 2:
        raise DataError(f"has {len(sides)} models, not two", where=where, remedy="name a file of two, or two files")
    (a, left), (b, right) = sides
    common = [item for item in left if item in right]
    if len(common) < FEWEST:
        what = f"the models have {len(common)} common items with {named!r}, fewer than {FEWEST}"
        raise DataError(what, where=where, remedy=remedy)
    pairs = [(left[item], right[item]) for item in common]
    verdicts = {value for pair in pairs for value in pair} <= {0.0, 1.0}
    return Earlier(
        (a, b), named, len(pairs), fmean(x for x, _ in pairs),
        sum(x != y for x, y in pairs) / len(pairs) if verdicts else None, stdev(y - x for x, y in pairs),
    )  # fmt: skip


def _models(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each model, in order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for at, line in enumerate(disk.read_text(path, MOST_BYTES).splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("model"), str):
            remedy = "name rows.jsonl of `twofold evaluate --out`"
            raise DataError("is no row of an evaluation", where=f"{path}:{at}", remedy=remedy)
        found.setdefault(row["model"], []).append(row)
    if not found:
        raise DataError("has no rows", where=str(path), remedy="name rows.jsonl of `twofold evaluate --out`")
    return found


def _sides(table: Mapping[str, list[Mapping[str, Any]]], files: int) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """All models of a single file, the first of each of two."""
    return list(table.items()) if files == 1 else list(table.items())[:1]


def _metric(table: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The first verdict of the rows, or else their first number."""
    row = next(iter(table.values()))[0]
    names = [key for key in row if key not in NAMED_ELSEWHERE]
    verdict = next((key for key in names if isinstance(row[key], bool)), None)
    number = next((key for key in names if isinstance(row[key], int | float)), None)
    return verdict or number or "strict"


def _values(rows: Sequence[Mapping[str, Any]], metric: str) -> Values:
    """The mean of each item's values."""
    found: dict[str, list[float]] = {}
    for row in rows:
        item = next((str(row[key]) for key in ITEM_KEYS if key in row), None)
        value = row.get(metric)
        if item is not None and isinstance(value, int | float):
            found.setdefault(item, []).append(float(value))
    return {item: fmean(values) for item, values in found.items()}
