"""The report's section on likelihood displacement: `displacement` of results.json as text, rows and one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.reports.charts import Chart
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.figure_data import Drawn, encoded
from twofold.reports.languages import phrase
from twofold.reports.run import RunData, dicts, estimate, mapping, typed
from twofold.statistics import Estimate

WORDS = {
    "pattern": "chosen here, rejected in other pairs",
    "shared": "also in rejected",
    "opening": "other tokens of the opening",
    "elsewhere": "all others",
}
SIDES = {
    "chosen": "chosen",
    "rejected": "rejected",
    "alike": "chosen, where both sides are most alike",
    "unlike": "chosen, where they are least alike",
}


@dataclass(frozen=True, slots=True)
class CauseRow:
    """A kind of token: its share of the lost nats and of the tokens, and whether the verdict names it."""

    words: str
    nats: Estimate
    tokens: float
    named: bool


@dataclass(frozen=True, slots=True)
class PatternRow:
    """A pattern that other pairs reject, and what was lost on it."""

    text: str
    nats: float
    chosen: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Fall:
    """The content of the section for one run."""

    run: str
    verdict: str
    remedy: str
    causes: list[CauseRow]
    sides: list[tuple[str, Estimate]]
    patterns: list[PatternRow]
    charts: list[Chart]


def fall_of(run: RunData, name: str) -> Fall | None:
    """The section of `run`, called `name`; None without an analysis."""
    return fall_in(run.results.displacement, name)


def fall_in(told: Mapping[str, Any], name: str) -> Fall | None:
    """The section of an analysis as results.json holds it; None for an empty one. Invalid parts are left out."""
    if not told.get("verdict"):
        return None
    causes, positions, cause = mapping(told.get("causes")), mapping(told.get("positions")), told.get("cause")
    chart = _chart({s: [e for p in dicts(positions.get(s)) if (e := estimate(p))] for s in ("chosen", "rejected")})
    return Fall(
        run=name,
        verdict=str(told["verdict"]),
        remedy=str(told.get("remedy", "")),
        causes=[row for kind, words in WORDS.items() if (row := _cause(causes.get(kind), words, cause == kind))],
        sides=[(words, e) for side, words in SIDES.items() if (e := estimate(told.get(side)))],
        patterns=[row for p in dicts(told.get("patterns")) if (row := typed(PatternRow, p))],
        charts=[chart] if chart else [],
    )


def _chart(positions: Mapping[str, Sequence[Estimate]]) -> Chart | None:
    """The mean change at each position with its interval, for chosen and rejected."""
    lines = [
        Line(range(len(e)), [p.value for p in e], side, [p.low for p in e], [p.high for p in e], markers=len(e) <= 30)
        for side, e in positions.items()
        if len(e) > 1
    ]
    if not lines:
        return None
    values = [0.0, *(v for line in lines for v in (*line.low, *line.high))]
    pad = 0.06 * (max(values) - min(values)) or 1.0
    end = max(len(line.x) for line in lines) - 1
    frame = Frame(phrase("Change by position"), end, min(values) - pad, max(values) + pad, 0.0)
    note = phrase("Mean change of each token's log-probability against the reference, in nats. Band: 95% over pairs.")
    legend = tuple((line.look, line.look) for line in lines)
    data = encoded([Drawn(line.look, line) for line in lines], frame)
    return Chart(
        frame.title, note, svg(lines, frame), legend, ("displacement",), axis="token of the completion", data=data
    )


def _cause(data: Any, words: str, named: bool) -> CauseRow | None:
    nats, tokens = estimate(mapping(data).get("nats")), mapping(data).get("tokens")
    return CauseRow(words, nats, float(tokens), named) if nats and isinstance(tokens, int | float) else None
