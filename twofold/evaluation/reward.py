"""How good a reward model is on unseen comparisons: accuracy, calibration, and the effect of length."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from twofold.batch import Group
from twofold.objectives.comparisons import LEVEL
from twofold.statistics import Estimate, PairedTest, clustered_share, sign_test

BINS = 10
"""Of the confidence σ(|lead|), from ½ to 1."""
LENGTHS: tuple[tuple[str, float], ...] = (
    ("less than half as long", -0.5),
    ("shorter", -0.1),
    ("about as long (±10%)", 0.1),
    ("longer", 0.5),
    ("more than twice as long", math.inf),
)
"""The better completion next to the worse: a name, and the end of (difference) / (longer of the two)."""


@dataclass(frozen=True)
class Scored:
    """Completions of one prompt: `levels` (0 is best; equal ones are tied), `scores`, and `lengths` in tokens. Entries
    with the same `prompt` are correlated."""

    prompt: Hashable
    levels: Sequence[float]
    scores: Sequence[float]
    lengths: Sequence[int]


@dataclass(frozen=True)
class Comparison:
    """A better completion next to a worse one: its lead in score, and in tokens (relative to the longer of the two)."""

    prompt: Hashable
    lead: float
    longer: float


@dataclass(frozen=True)
class Bin:
    """Comparisons of similar confidence: the mean confidence, and the share of correct ones (ties count half)."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class RewardReport:
    """A reward model's results on comparisons. `test` checks whether more prompts are mostly correct than wrong."""

    accuracy: Estimate
    test: PairedTest
    longer_wins: Estimate
    by_length: tuple[tuple[str, Estimate], ...]
    calibration_error: float
    bins: tuple[Bin, ...]
    prompts: int

    @property
    def figures(self) -> dict[str, float]:
        """The headline figures, for a line of metrics; without `longer_wins` where all are equally long."""
        longer = {"longer_wins": self.longer_wins.value} if self.longer_wins.n else {}
        return {"accuracy": self.accuracy.value, **longer, "calibration_error": self.calibration_error}

    def as_dict(self) -> dict[str, Any]:
        """All figures, as in results.json."""
        return {
            "accuracy": self.accuracy.as_dict(),
            "test": self.test.as_dict(),
            "longer_wins": self.longer_wins.as_dict(),
            "by_length": [{"better": name, **estimate.as_dict()} for name, estimate in self.by_length],
            "calibration_error": self.calibration_error,
            "bins": [vars(b) for b in self.bins],
            "prompts": self.prompts,
        }


def scored(groups: Sequence[Group], scores: Sequence[Sequence[float]]) -> list[Scored]:
    """Groups with the scores of their branches. Without a column for levels, branches are ordered best first."""
    return [
        Scored(
            prompt=bytes(group.prompt.numpy().tobytes()),
            levels=[b.columns.get(LEVEL, float(i)) for i, b in enumerate(group.branches)],
            scores=row,
            lengths=[len(b.tokens) for b in group.branches],
        )
        for group, row in zip(groups, scores, strict=True)
    ]


def judge(groups: Sequence[Scored]) -> RewardReport:
    """All comparisons within `groups`. A tie in score is no success. Intervals account for the correlation of a
    prompt's pairs."""
    found = [c for group in groups for c in comparisons(group)]
    if not found:
        raise ValueError("nothing to compare")
    by_length: list[tuple[str, Estimate]] = []
    low = -math.inf
    for name, high in LENGTHS:
        inside = [c for c in found if low < c.longer <= high]
        by_length += [(name, _share(inside, _right))] if inside else []
        low = high
    unequal = [c for c in found if c.longer != 0]
    bins = calibration(found)
    error = math.fsum(b.n * abs(b.predicted - b.observed) for b in bins) / len(found)
    return RewardReport(
        accuracy=_share(found, _right),
        test=sign_test(*_by_prompt(found, _right)),
        longer_wins=_share(unequal, lambda c: c.longer > 0),
        by_length=tuple(by_length),
        calibration_error=error,
        bins=bins,
        prompts=len({c.prompt for c in found}),
    )


def comparisons(group: Scored) -> list[Comparison]:
    """Every pair of which one is better."""
    rows = sorted(zip(group.levels, group.scores, group.lengths, strict=True), key=lambda row: row[0])
    return [
        Comparison(group.prompt, s - t, (n - m) / max(n, m, 1))
        for (better, s, n), (worse, t, m) in combinations(rows, 2)
        if better < worse
    ]


def calibration(found: Sequence[Comparison]) -> tuple[Bin, ...]:
    """The model's probability that its favorite is the better one, next to how often it is. No empty bins."""
    told: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for c in found:
        confidence = 1 / (1 + math.exp(-min(abs(c.lead), 700.0)))
        at = min(BINS - 1, int((confidence - 0.5) * 2 * BINS))
        told[at].append((confidence, 1.0 if c.lead > 0 else 0.5 if c.lead == 0 else 0.0))
    return tuple(
        Bin(
            low=0.5 + at / (2 * BINS),
            high=0.5 + (at + 1) / (2 * BINS),
            n=len(rows),
            predicted=math.fsum(p for p, _ in rows) / len(rows),
            observed=math.fsum(o for _, o in rows) / len(rows),
        )
        for at, rows in enumerate(told)
        if rows
    )


def _right(comparison: Comparison) -> bool:
    return comparison.lead > 0


def _share(found: Sequence[Comparison], succeeds: Callable[[Comparison], bool]) -> Estimate:
    return clustered_share(*_by_prompt(found, succeeds))


def _by_prompt(found: Sequence[Comparison], succeeds: Callable[[Comparison], bool]) -> tuple[list[int], list[int]]:
    """Successes and comparisons of each prompt."""
    counts: dict[Hashable, int] = {}
    totals: dict[Hashable, int] = {}
    for c in found:
        counts[c.prompt] = counts.get(c.prompt, 0) + succeeds(c)
        totals[c.prompt] = totals.get(c.prompt, 0) + 1
    return list(counts.values()), list(totals.values())
