"""The report's section on contests: players by Bradley–Terry score, and every two of them by a paired test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.reports.frontier import judge_note
from twofold.reports.languages import Phrase
from twofold.reports.run import RunData, dicts, estimate, mapping
from twofold.statistics import Estimate

MOST, MOST_PAIRS = 20, 60


@dataclass(frozen=True, slots=True)
class PlayerRow:
    """A player: its score in log-odds, and its share of all its matches."""

    name: str
    score: Estimate
    rate: Estimate


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two players: the share of `b` minus that of `a` in their own matches, p, and p by Holm if there are several.
    `n` of the `matches` have a verdict."""

    a: str
    b: str
    difference: Estimate
    p_value: float
    p_holm: float | None
    n: int
    matches: int


@dataclass(frozen=True, slots=True)
class ContestTable:
    """A contest: how many players and which judge, its tables, the command that repeats it, and its
    judge's own accuracy."""

    of: str
    players: tuple[PlayerRow, ...]
    pairs: tuple[PairRow, ...]
    command: str
    judge: Phrase | None = None


def contests(runs: Sequence[RunData]) -> list[ContestTable]:
    """The contests of the runs, each once."""
    found = [table for run in runs for row in dicts(run.extra.get("contests")) if (table := _table(row))]
    return list(dict.fromkeys(found))[:MOST]


def _table(row: Mapping[str, Any]) -> ContestTable | None:
    players = [
        PlayerRow(str(player.get("name", "")), score, rate)
        for player in dicts(row.get("players"))
        if (score := estimate(player.get("score"))) and (rate := estimate(player.get("rate")))
    ]
    missing = {_names(m): _number(m, "missing") or 0 for m in dicts(row.get("matches"))}
    pairs = [
        PairRow(
            *_names(c),
            difference,
            p,
            _number(c, "p_holm"),
            difference.n,
            difference.n + round(missing.get(_names(c), 0)),
        )
        for c in dicts(row.get("comparisons"))
        if (difference := estimate(mapping(c.get("difference")))) and (p := _number(c, "p_value")) is not None
    ]
    if not players:
        return None
    command = str(row.get("command", ""))
    tables = tuple(players[:MOST]), tuple(pairs[:MOST_PAIRS])
    return ContestTable(str(row.get("of", "")), *tables, command, judge_note(row))


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("a", "")), str(row.get("b", ""))


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """A finite number; None for anything else."""
    value = row.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) else None
