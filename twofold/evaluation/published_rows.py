"""The rows of published benchmarks, from the user's copy of their files."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twofold import disk
from twofold.data.formats import Table
from twofold.data.issues import Issue, IssueError
from twofold.data.readers import rows
from twofold.errors import DataError
from twofold.evaluation.length_control import GamedRows
from twofold.records import Demonstration, Record, Request, Source

GAMED = "df_gamed.csv"
PUBLISHED_AT = {
    "alpaca-eval": "alpaca_eval_gpt4_baseline.json of tatsu-lab/alpaca_eval has `instruction` and `output`",
}
"""Where each file is, and what its rows have."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class BenchmarkItem:
    """A row of a benchmark: its record, its place among all rows, counted from 0, and its subset."""

    record: Record
    index: int
    subset: str


def load(task: str, source: str, limit: int | None = None) -> Table:
    """The prompts of a benchmark with the baseline's answers where the file has them. Raises DataError naming file,
    row and key of the first fault."""
    records: list[Record] = []
    for number, row in rows(source):
        if limit is not None and len(records) == limit:
            break
        if isinstance(row, Issue):
            if row.severity == "error":
                raise IssueError(row)
            continue
        records.append(_RECORDS[task](row, Source(source, number), PUBLISHED_AT[task]))
    if not records:
        raise DataError("has no rows", where=source, remedy=PUBLISHED_AT[task])
    return Table(records, task, source, hashlib.sha256(Path(disk.real(Path(source))).read_bytes()).hexdigest())


def items_of(task: str, records: Sequence[Record]) -> list[BenchmarkItem]:
    """The records of `load` with their subsets."""
    file = records[0].source.file
    known = {number: row for number, row in rows(file) if not isinstance(row, Issue)}
    key = _SUBSETS[task]
    return [BenchmarkItem(r, i, str(known[r.source.row].get(key) or "")) for i, r in enumerate(records)]


def items(task: str) -> Callable[[Sequence[Record]], list[BenchmarkItem]]:
    """`items_of` of one benchmark."""
    return partial(items_of, task)


def gamed_rows(data: str) -> GamedRows | None:
    """AlpacaEval's `df_gamed.csv` next to the file `data`; None if there is none. Raises DataError naming line and
    column of a missing value."""
    path = Path(data).parent / GAMED
    if not path.is_file():
        return None
    features: list[tuple[float, float, float]] = []
    shares: list[float] = []
    difficulty: dict[int, float] = {}
    for number, row in enumerate(csv.DictReader(disk.read_text(path).splitlines()), 2):
        value = partial(_number, row, f"{path}:{number}")
        hard, share = value("instruction_difficulty"), value("preference")
        if not 0 <= share <= 1:
            remedy = "download the published file again: preferences are from 0 to 1"
            raise DataError(f"preference {share:g} is not from 0 to 1", where=f"{path}:{number}", remedy=remedy)
        features.append((float(np.tanh(value("std_delta_len"))), hard, 0.0))
        shares.append(share)
        difficulty.setdefault(int(value("index")), hard)
    if not shares:
        raise DataError("has no rows", where=str(path), remedy=f"download {GAMED} of tatsu-lab/alpaca_eval")
    return GamedRows(np.array(features), np.array(shares), difficulty)


def refuse_unknown_difficulty(several: Sequence[BenchmarkItem], gamed: GamedRows) -> None:
    """Raise DataError for an instruction without a difficulty."""
    for item in several:
        if item.index not in gamed.difficulty:
            what = f"{GAMED} has no instruction_difficulty of index {item.index}"
            remedy = "use the file of the same 805 instructions, or remove it: then there is no length-controlled rate"
            raise DataError(what, where=str(item.record.source), remedy=remedy)


def text_of(row: Row, key: str, where: str, remedy: str, *, empty: bool = False) -> str:
    """A text of a row. Raises DataError for another value, and for a missing one, or an `empty` one if not allowed."""
    value = row.get(key)
    if isinstance(value, str) and (empty or value.strip()):
        return value
    if value is None:
        what = f"lacks the key `{key}`"
    else:
        what = f"has {_named(value)} as `{key}`, not a text" if not isinstance(value, str) else f"`{key}` is empty"
    raise DataError(what, where=where, remedy=remedy)


def _alpaca_eval(row: Row, source: Source, remedy: str) -> Record:
    prompt = text_of(row, "instruction", str(source), remedy)
    if "output" not in row:
        return Request(prompt, source)
    return Demonstration(prompt, text_of(row, "output", str(source), remedy, empty=True), source)


def _number(row: Mapping[str, str | None], where: str, key: str) -> float:
    try:
        number = float(row[key] or "")
    except (KeyError, ValueError):
        what = f"has no number in column `{key}`"
        raise DataError(what, where=where, remedy=f"download {GAMED} of tatsu-lab/alpaca_eval again") from None
    if not np.isfinite(number):
        raise DataError(f"column `{key}` is not finite", where=where, remedy="download the file again")
    return number


def _named(value: Any) -> str:
    return {list: "a list", dict: "an object"}.get(type(value), json.dumps(value, default=str)[:40])


_RECORDS: Mapping[str, Callable[[Row, Source, str], Record]] = {"alpaca-eval": _alpaca_eval}
_SUBSETS = {"alpaca-eval": "dataset"}
