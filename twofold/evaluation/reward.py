"""How good a reward model is on unseen comparisons: accuracy, calibration, and the effect of length.

Rows count here as in training: one of weight 2 as the row twice, one of probability p as p of the row and 1 − p of the
row in the other order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Protocol

from twofold.batch import PROBABILITY, WEIGHT, Group
from twofold.objectives.comparisons import LEVEL
from twofold.statistics import Estimate, PairedTest, clustered_share, sign_test, weighted_share

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
    with the same `prompt` are correlated. The row counts `weight` times, and its order is right with `probability`."""

    prompt: Hashable
    levels: Sequence[float]
    scores: Sequence[float]
    lengths: Sequence[int]
    weight: float = 1.0
    probability: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """A better completion next to a worse one: its lead in score, and in tokens (relative to the longer of the two).
    This order is right with `probability`, in a row of `weight`."""

    prompt: Hashable
    lead: float
    longer: float
    weight: float = 1.0
    probability: float = 1.0

    @property
    def mass(self) -> float:
        """How much it counts."""
        return self.weight * self.probability


@dataclass(frozen=True)
class Bin:
    """Comparisons of similar confidence: the mean confidence, and the share of correct ones (ties count half).
    `effective` is the number of comparisons of equal weight with the same information, where they have weights."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    effective: float | None = None

    def as_dict(self) -> dict[str, float]:
        """The fields as in results.json."""
        return {name: value for name, value in vars(self).items() if value is not None}


class RewardFigures(Protocol):
    """A reward model's results on held-out rows: in a line of metrics, with intervals, and all in results.json."""

    section: ClassVar[str]

    @property
    def figures(self) -> dict[str, float]: ...

    @property
    def headline(self) -> dict[str, Estimate]: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class RewardReport:
    """A reward model's results on comparisons. `test` checks whether more prompts are mostly correct than wrong.
    `effective` is the number of comparisons of equal weight with the same information, where rows have a weight or a
    probability."""

    accuracy: Estimate
    test: PairedTest
    longer_wins: Estimate
    by_length: tuple[tuple[str, Estimate], ...]
    calibration_error: float
    bins: tuple[Bin, ...]
    prompts: int
    effective: float | None = None

    section: ClassVar[str] = "reward_model"

    @property
    def headline(self) -> dict[str, Estimate]:
        return {"accuracy": self.accuracy, "longer wins": self.longer_wins}

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
            "bins": [b.as_dict() for b in self.bins],
            "prompts": self.prompts,
            **({} if self.effective is None else {"effective": self.effective}),
        }


def scored(groups: Sequence[Group], scores: Sequence[Sequence[float]]) -> list[Scored]:
    """Groups with the scores of their branches. Without a column for levels, branches are ordered best first."""
    return [
        Scored(
            prompt=bytes(group.prompt.numpy().tobytes()),
            levels=[b.columns.get(LEVEL, float(i)) for i, b in enumerate(group.branches)],
            scores=row,
            lengths=[len(b.tokens) for b in group.branches],
            weight=group.numbers.get(WEIGHT, 1.0),
            probability=group.numbers.get(PROBABILITY, 1.0),
        )
        for group, row in zip(groups, scores, strict=True)
    ]


def judge(groups: Sequence[Scored]) -> RewardReport:
    """All comparisons within `groups`. A tie in score is no success. Intervals account for the correlation of a
    prompt's pairs. Raises ValueError where nothing is compared, or nothing counts."""
    found = [c for group in groups for c in comparisons(group)]
    if not any(c.mass for c in found):
        raise ValueError("nothing to compare")
    by_length: list[tuple[str, Estimate]] = []
    low = -math.inf
    for name, high in LENGTHS:
        inside = [c for c in found if low < c.longer <= high]
        by_length += [(name, _share(inside, _right))] if _mass(inside) else []
        low = high
    unequal = [c for c in found if c.longer != 0]
    bins = _bins(found)
    return RewardReport(
        accuracy=_share(found, _right),
        test=sign_test(*_by_prompt(found, _right)),
        longer_wins=_share(unequal, lambda c: c.longer > 0),
        by_length=tuple(by_length),
        calibration_error=math.fsum(mass * abs(b.predicted - b.observed) for b, mass in bins) / _mass(found),
        bins=tuple(b for b, _ in bins),
        prompts=len({c.prompt for c in found}),
        effective=_effective(found),
    )


def comparisons(group: Scored) -> list[Comparison]:
    """Every pair of which one is better; both orders where that is in doubt."""
    rows = sorted(zip(group.levels, group.scores, group.lengths, strict=True), key=lambda row: row[0])
    both = [(1.0, group.probability), (-1.0, 1 - group.probability)][: 1 + (group.probability < 1)]
    return [
        Comparison(group.prompt, sign * (s - t), sign * (n - m) / max(n, m, 1), group.weight, probability)
        for (better, s, n), (worse, t, m) in combinations(rows, 2)
        if better < worse
        for sign, probability in both
    ]


def calibration(found: Sequence[Comparison]) -> tuple[Bin, ...]:
    """The model's probability that its favorite is the better one, next to how often it is. No empty bins."""
    return tuple(b for b, _ in _bins(found))


def _bins(found: Sequence[Comparison]) -> list[tuple[Bin, float]]:
    """Each bin, and how much its comparisons count."""
    inside: list[list[tuple[Comparison, float]]] = [[] for _ in range(BINS)]
    for c in found:
        confidence = 1 / (1 + math.exp(-min(abs(c.lead), 700.0)))
        inside[min(BINS - 1, int((confidence - 0.5) * 2 * BINS))].append((c, confidence))
    made: list[tuple[Bin, float]] = []
    for at, rows in enumerate(inside):
        members = [c for c, _ in rows]
        if mass := _mass(members):
            predicted = math.fsum(c.mass * confidence for c, confidence in rows) / mass
            observed = math.fsum(c.mass * (1.0 if c.lead > 0 else 0.5 if c.lead == 0 else 0.0) for c in members) / mass
            low, high = 0.5 + at / (2 * BINS), 0.5 + (at + 1) / (2 * BINS)
            made.append((Bin(low, high, _rows(members), predicted, observed, _effective(members)), mass))
    return made


def _mass(found: Sequence[Comparison]) -> float:
    return math.fsum(c.mass for c in found)


def _rows(found: Sequence[Comparison]) -> int:
    """How many comparisons: both orders of one are one."""
    return round(math.fsum(c.probability for c in found))


def _effective(found: Sequence[Comparison]) -> float | None:
    """(Σ weight)² / Σ weight², after Kish; None where all count once."""
    if all(c.weight == c.probability == 1 for c in found):
        return None
    squares = math.fsum(c.mass * c.weight for c in found)
    return _mass(found) ** 2 / squares if squares else 0.0


def _right(comparison: Comparison) -> bool:
    return comparison.lead > 0


def _share(found: Sequence[Comparison], succeeds: Callable[[Comparison], bool]) -> Estimate:
    sums, totals = _by_prompt(found, succeeds)
    effective = _effective(found)
    if effective is None:
        return clustered_share([int(s) for s in sums], [int(t) for t in totals])
    return weighted_share(sums, totals, _rows(found), effective)


def _by_prompt(found: Sequence[Comparison], succeeds: Callable[[Comparison], bool]) -> tuple[list[float], list[float]]:
    """Successes and comparisons of each prompt, as they count."""
    sums: dict[Hashable, float] = {}
    totals: dict[Hashable, float] = {}
    for c in found:
        sums[c.prompt] = sums.get(c.prompt, 0.0) + c.mass * succeeds(c)
        totals[c.prompt] = totals.get(c.prompt, 0.0) + c.mass
    return list(sums.values()), list(totals.values())
