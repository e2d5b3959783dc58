"""Completions with tokens colored by credit, for the report of a run and the page of `twofold explain`.

Rows are those of `Explanation.as_dict` or of an explain.json from any source. Invalid parts are left out, and no text
of them is trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.data.preview import in_words, visible
from twofold.reports import tables
from twofold.reports.languages import phrase
from twofold.reports.pages import clip
from twofold.reports.run import RunData, dicts, mapping

LEVELS = 5
STRONG = 0.98
"""The quantile of the absolute credits that gets the strongest color."""
ROWS, TOKENS = 6, 300
"""Of a run's explain.json in its report, and of one completion there; the rest is counted."""
CONTEXT = "context"
LIKELY = {
    "near-equal": "chosen and rejected are nearly equal",
    "pattern": "on patterns that other pairs reject",
    "shared": "on tokens that are also in rejected",
    "opening": "on the opening",
    "length": "many tokens that lost little each",
    "elsewhere": "no one kind of token",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A token as shown: its text, its credit, and `look` of its color (`p1` … `p5`, `m1` … `m5`, or none). A stretch of
    context, which has no credit, has the look `context`."""

    text: str
    credit: float
    look: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion with its implicit reward, the sum of all its credits; `hidden` tokens are not shown."""

    label: str
    reward: float
    tokens: tuple[Token, ...]
    hidden: int


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with its completions and a line of facts."""

    name: str
    prompt: str
    facts: str
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """The part of a run's `n` explained rows that a report shows. `scale` is the credit of the strongest color."""

    run: str
    n: int
    scale: float
    rows: tuple[Row, ...]


def explained(run: RunData, name: str) -> Explained | None:
    """The first rows of the run's explain.json; None without it."""
    told = run.extra.get("explain")
    if not isinstance(told, Mapping) or not isinstance(rows := told.get("rows"), list):
        return None
    scale = scale_of(rows[:ROWS])
    found = rows_of(rows[:ROWS], scale, TOKENS)
    n = told.get("n")
    return Explained(name, n if isinstance(n, int) else len(rows), scale, found) if found else None


def rows_of(rows: Sequence[Any], scale: float, most: int) -> tuple[Row, ...]:
    """The rows with a color for each token, at most `most` tokens per completion. Rows without completions are left
    out."""
    found = (
        Row(clip(str(row.get("name", "")), 160), clip(visible(str(row.get("prompt", "")))), _facts(row), tuple(said))
        for row in dicts(rows)
        if (said := [_completion(c, scale, most) for c in _completions(row) if _tokens(c)])
    )
    return tuple(found)


def scale_of(rows: Sequence[Any]) -> float:
    """The credit that gets the strongest color."""
    sizes = sorted(abs(credit) for row in rows for said in _completions(row) for _, credit in _tokens(said))
    return sizes[min(len(sizes) - 1, int(STRONG * len(sizes)))] if sizes else 0.0


def level(credit: float, scale: float) -> int:
    """How strongly a credit is drawn: 0 (not at all) to LEVELS, below 0 for blame."""
    if not (scale > 0 and math.isfinite(credit)):
        return 0
    size = min(LEVELS, math.ceil(LEVELS * abs(credit) / scale - 0.25))
    return size if credit > 0 else -size


def shown(text: str) -> str:
    """A token's text with all of it visible: a newline is a sign, a part of a character is a dot."""
    return clip(visible(text), 80).replace("\n", "↵\n") if text else "·"


def _completions(row: Any) -> list[Mapping[str, Any]]:
    return list(dicts(mapping(row).get("completions")))


def _tokens(said: Mapping[str, Any]) -> list[tuple[str, float]]:
    credits = [(str(t.get("text", "")), t.get("credit")) for t in dicts(said.get("tokens"))]
    return [(text, float(c)) for text, c in credits if isinstance(c, int | float) and math.isfinite(c)]


def _completion(told: Mapping[str, Any], scale: float, most: int) -> Completion:
    tokens = _tokens(told)
    drawn = list[Token]()
    context = list(dicts(told.get("context")))
    for place, (text, credit) in enumerate(tokens[:most]):
        between = "".join(str(each.get("text", "")) for each in context if each.get("before") == place)
        drawn += [Token(clip(visible(between)), 0.0, CONTEXT)] if between else []
        drawn.append(Token(shown(text), credit, _look(level(credit, scale))))
    reward, length = told.get("reward"), told.get("length")
    total = float(reward) if isinstance(reward, int | float) else math.fsum(credit for _, credit in tokens)
    hidden = (length if isinstance(length, int) else len(tokens)) - len(tokens[:most])
    return Completion(clip(str(told.get("label", "")), 60), total, tuple(drawn), max(0, hidden))


def _look(strength: int) -> str:
    return f"{'p' if strength > 0 else 'm'}{abs(strength)}" if strength else ""


def _facts(row: Mapping[str, Any]) -> str:
    numbers = {str(k): v for k, v in mapping(row.get("numbers")).items() if isinstance(v, int | float)}
    made = _made(row)
    if not numbers:
        return made
    own = phrase("in the row: {numbers}", numbers=clip(in_words(numbers), 160))
    return made + phrase("; ") + own if made else own


def _made(row: Mapping[str, Any]) -> str:
    margin, opening, change = (row.get(name, 0) for name in ("margin", "opening", "chosen_change"))
    if "margin" not in row or not all(isinstance(value, int | float) for value in (margin, opening, change)):
        return ""
    words = phrase("margin {margin}", margin=tables.signed(margin))
    if opening:
        one, many = "; both begin with the same {n} token", "; both begin with the same {n} tokens"
        words += phrase(one if opening == 1 else many, n=opening)
    if cause := LIKELY.get(str(row.get("likely"))):
        fell = "; chosen fell {nats} nats, likely cause: {cause}"
        words += phrase(fell, nats=tables.number(-change), cause=phrase(cause))
    return words
