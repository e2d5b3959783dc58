"""Warnings on evaluation samples during training: they repeat themselves, or their length drifts.

Repetition is the share of a completion's 4-grams of words that it already contains (arXiv:1908.04319, section 5.2:
rep-n). In scripts without spaces, every character is a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from twofold.settings import require, settings

GRAM = 4
REPETITION, LENGTH = "samples/repetition", "samples/words"
RISE = 0.1
"""More repetition than at the first evaluation, for a warning: a model that always repeated itself is no news."""
_LONE = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORDS = re.compile(rf"[{_LONE}]|[^\s{_LONE}]+")


@settings
class AlarmSettings:
    """When evaluation samples cause a warning. null: never."""

    repetition: float | None = 0.3
    """Share of a completion's 4-grams of words that are repeated, in the mean, and 0.1 more than at the start."""
    length: float | None = 2.0
    """Factor by which the mean number of words has grown or shrunk since the start."""

    def __post_init__(self) -> None:
        require(self.repetition is None or 0 < self.repetition < 1, "repetition must be in (0, 1)")
        require(self.length is None or self.length > 1, "length must be > 1")


def repetition(text: str) -> float:
    """The share of 4-grams of words that occurred before in `text`; 0 for a text without two of them."""
    words = _WORDS.findall(text)
    grams = [tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def sample_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean repetition and the mean number of words of the rows' completions; nothing without any."""
    texts = [row["completion"] for row in rows if isinstance(row.get("completion"), str)]
    if not texts:
        return {}
    return {REPETITION: fmean(map(repetition, texts)), LENGTH: fmean(len(_WORDS.findall(t)) for t in texts)}


def alarms(step: int, figures: Mapping[str, float], limits: AlarmSettings, state: dict[str, Any]) -> list[str]:
    """New warnings after an evaluation, each at most once. `state`, which the caller saves, has the first figures."""
    if REPETITION not in figures:
        return []
    first: dict[str, float] = state.setdefault("first", {k: figures[k] for k in (REPETITION, LENGTH)})
    given: list[str] = state.setdefault("given", [])
    found: list[tuple[str, str]] = []
    share, words = figures[REPETITION], figures[LENGTH]
    if limits.repetition is not None and share > max(limits.repetition, first[REPETITION] + RISE):
        text = f"{share:.0%} of their 4-grams of words, at the start {first[REPETITION]:.0%}"
        found.append(("repetition", f"samples repeat themselves ({text}): read samples.jsonl, stop at an earlier step"))
    grown = max(words, 1.0) / max(first[LENGTH], 1.0)
    if limits.length is not None and not 1 / limits.length <= grown <= limits.length:
        text = f"the length of samples went from {first[LENGTH]:.0f} to {words:.0f} words"
        found.append(("length", f"{text}: read samples.jsonl; a reward that favors length can cause it"))
    fresh = [(name, text) for name, text in found if name not in given]
    given += [name for name, _ in fresh]
    return [f"step {step}: {text}" for _, text in fresh]
