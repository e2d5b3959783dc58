"""Scores that rows have next to their texts, and preferences that they contradict."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np

from twofold.data.csv import is_csv, spelled
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.scratch import Spool
from twofold.errors import DataError
from twofold.records import Pair, Record

SCORES = tuple(
    pair
    for name in ("score", "reward", "rating", "avg_rating")
    for pair in ((f"{name}_chosen", f"{name}_rejected"), (f"chosen_{name}", f"rejected_{name}"))
)
"""Columns with the scores of both completions."""


def score_margin(record: Record, row: Row) -> float | None:
    """How much better chosen was rated than rejected: the row's own margin, or the difference of its scores."""
    if not isinstance(record, Pair):
        return None
    if record.margin is not None:
        return record.margin
    from_csv = is_csv(record.source.file)
    for chosen, rejected in SCORES:
        if chosen in row and rejected in row:
            both = [_number(spelled(row[side]) if from_csv else row[side]) for side in (chosen, rejected)]
            if both[0] is not None and both[1] is not None:
                return both[0] - both[1]
    return None


def _number(value: Any) -> float | None:
    """A finite number; None for any other value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else None


class LowMargins:
    """Pairs whose scores differ by less than `least`: labels that are probably noise."""

    def __init__(self, least: float) -> None:
        if not isfinite(least):
            raise DataError("is no finite number", where="--min-margin", remedy="write a number such as 0.5")
        self._least, self._found = least, Spool([("row", np.int64), ("margin", np.float64)])
        self._scored = False

    def see(self, record: Record, row: Row) -> None:
        margin = score_margin(record, row)
        if margin is not None:
            self._scored = True
            if margin < self._least:
                self._found.append((record.source.row, margin))

    def faults(self, source: str) -> Iterator[Issue]:
        if not self._scored:
            reason = "no pair has scores of both completions, or a margin"
            remedy = f"add columns such as {SCORES[0][0]} and {SCORES[0][1]}, or leave --min-margin out"
            yield Issue(source, 0, "", reason, remedy, "warning", "no scores")
        for block in self._found.blocks():
            for row, margin in block.tolist():
                reason = f"chosen scores {margin:+.4g} against rejected, less than {self._least:g}"
                remedy = "remove the row: the preference is probably noise"
                yield Issue(source, row, "", reason, remedy, "warning", "low margin")
