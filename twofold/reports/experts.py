"""The report's section on a mixture of experts: `experts` of results.json as metrics and a table of the most and least
used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from twofold.reports.run import RunData

FEW = 8


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """An expert by its index: its mean, smallest and largest share of the choices in a layer."""

    expert: int
    mean: float
    smallest: float
    largest: float


@dataclass(frozen=True, slots=True)
class ExpertUse:
    """The content of the section for one run. `even` is the share of each expert under even use."""

    run: str
    evenness: float
    tokens: int
    layers: int
    even: float
    unused: int
    rows: list[ExpertRow]


def use_of(run: RunData, name: str) -> ExpertUse | None:
    """The section of `run`, called `name`; None for a model without experts, and for figures that are broken."""
    told = run.results.experts
    share, evenness, tokens = _table(told.get("share")), told.get("evenness"), told.get("tokens")
    if not share or not isinstance(evenness, int | float) or not isinstance(tokens, int | float):
        return None
    if not math.isfinite(tokens):
        return None
    columns = list(zip(*share, strict=True))
    rows = [ExpertRow(i, sum(column) / len(column), min(column), max(column)) for i, column in enumerate(columns)]
    rows.sort(key=lambda row: -row.mean)
    return ExpertUse(
        run=name,
        evenness=float(evenness),
        tokens=int(tokens),
        layers=len(share),
        even=1 / len(columns),
        unused=sum(value == 0 for row in share for value in row),
        rows=rows if len(rows) <= 2 * FEW else [*rows[:FEW], *rows[-FEW:]],
    )


def _table(share: Any) -> list[list[float]]:
    """One row of numbers for each layer, all of one length; nothing where it is anything else."""
    if not isinstance(share, list) or not all(isinstance(row, list) and row for row in share):
        return []
    one_length = len({len(row) for row in share}) == 1
    return share if one_length and all(isinstance(v, int | float) for row in share for v in row) else []
