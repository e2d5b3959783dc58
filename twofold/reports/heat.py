"""Completions token by token, coloured by credit: rows that `twofold explain --json RUN/explain.json` left in a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.reports.run import RunData
from twofold.reports.text import clip

ROWS = 6
TOKENS = 300
"""Of one completion; the rest is counted."""
STRONG = 0.98
"""The quantile of all credits' sizes that gets the full colour."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token's text, its credit, and its colour: from −1 (blamed) over 0 to 1 (credited)."""

    text: str
    credit: float
    shade: float


@dataclass(frozen=True, slots=True)
class Said:
    """A completion with its implicit reward, the sum of all its credits; `hidden` tokens are not shown."""

    label: str
    reward: float
    tokens: tuple[Token, ...]
    hidden: int


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with its completions."""

    name: str
    prompt: str
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """What the page shows of one run, of `n` rows that were explained."""

    run: str
    n: int
    rows: tuple[Row, ...]


def explained(run: RunData, name: str) -> Explained | None:
    """The first rows of the run's explain.json; None without it. What is broken is left out."""
    told = run.extra.get("explain")
    if not isinstance(told, Mapping) or not isinstance(told.get("rows"), Sequence):
        return None
    found = [r for r in told["rows"] if isinstance(r, Mapping) and isinstance(r.get("completions"), list)][:ROWS]
    full = _full(found)
    rows = tuple(row for r in found if (row := _row(r, full)).said)
    n = told.get("n")
    return Explained(name, n if isinstance(n, int) else len(told["rows"]), rows) if rows else None


def _full(rows: Sequence[Mapping[str, Any]]) -> float:
    sizes = sorted(abs(c) for row in rows for said in row["completions"] for _, c in _tokens(said))
    return sizes[min(len(sizes) - 1, int(STRONG * len(sizes)))] if sizes else 0.0


def _row(told: Mapping[str, Any], full: float) -> Row:
    said = tuple(_said(c, full) for c in told["completions"] if _tokens(c))
    return Row(str(told.get("name", "")), str(told.get("prompt", "")), said)


def _said(told: Mapping[str, Any], full: float) -> Said:
    tokens = _tokens(told)
    reward = told.get("reward")
    shown = tuple(Token(_visible(text), c, _shade(c, full)) for text, c in tokens[:TOKENS])
    total = float(reward) if isinstance(reward, int | float) else math.fsum(c for _, c in tokens)
    return Said(str(told.get("label", "")), total, shown, max(0, int(_count(told, len(tokens))) - len(shown)))


def _count(told: Mapping[str, Any], tokens: int) -> int:
    length = told.get("length")
    return length if isinstance(length, int) else tokens


def _tokens(told: Any) -> list[tuple[str, float]]:
    rows = told.get("tokens") if isinstance(told, Mapping) else None
    found = [t for t in rows if isinstance(t, Mapping)] if isinstance(rows, list) else []
    told_credit = [(str(t.get("text", "")), t.get("credit")) for t in found]
    return [(text, float(c)) for text, c in told_credit if isinstance(c, int | float) and math.isfinite(c)]


def _shade(credit: float, full: float) -> float:
    """In fifths, so that neighbours of one colour read as one."""
    return round(5 * max(-1.0, min(1.0, credit / full))) / 5 if full > 0 else 0.0


def _visible(text: str) -> str:
    return clip(text, 80).replace("\n", "↵\n") or "·"
