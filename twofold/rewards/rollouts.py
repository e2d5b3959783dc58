"""Combines several rewards of a policy's samples into one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twofold.batch import Group
from twofold.errors import NonFiniteError
from twofold.rewards.base import Reward

LARGEST = 1e18
REMEDY = "return a finite number for every completion, or judge by something else"


@dataclass(frozen=True)
class DraftScores:
    """A number for each sample of each group, higher is better; None for a group without a verdict."""

    scores: Sequence[Sequence[float] | None]
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Rewards:
    """Several rewards, by name, each with its weight."""

    sources: Sequence[tuple[str, float, Reward]]
    shares = False

    def rate(self, groups: Sequence[Group]) -> dict[str, list[list[float]]]:
        """Each by itself, unweighted. Raises NonFiniteError for a reward that is no finite number, or whose weighted
        square would be none in float32."""
        found = {name: source.rate(groups) for name, _, source in self.sources}
        for name, weight, _ in self.sources:
            for group, row in zip(groups, found[name], strict=True):
                if not all(map(math.isfinite, row)):
                    raise NonFiniteError(f"the reward {name} is not finite: {row}", where=group.name, remedy=REMEDY)
                if any(abs(weight * reward) > LARGEST for reward in row):
                    what = f"the reward {name} is larger than {LARGEST:g} (times its weight): {row}"
                    raise NonFiniteError(what, where=group.name, remedy="scale it down: only differences matter")
        return found

    def total(self, rated: dict[str, list[list[float]]]) -> list[list[float]]:
        """The weighted sum for each sample."""
        weighed = [[[weight * r for r in row] for row in rated[name]] for name, weight, _ in self.sources]
        return [[sum(parts) for parts in zip(*rows, strict=True)] for rows in zip(*weighed, strict=True)]

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        """The weighted sums, with the mean of each reward where there are several. Raises as `rate`."""
        rated = self.rate(groups)
        means = {f"reward/{name}": sum(map(sum, rows)) / sum(map(len, rows)) for name, rows in rated.items()}
        return DraftScores(self.total(rated), means if len(rated) > 1 else {})
