"""What says which of a policy's drafts are better: rewards, or a judge that compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twofold.batch import Group
from twofold.rewards.rollouts import Rewards


@dataclass(frozen=True)
class DraftScores:
    """A number for each draft of each group, more is better; None for a group that stayed without a verdict."""

    scores: Sequence[Sequence[float] | None]
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


class PairJudge(Protocol):
    """`shares`: its numbers are shares of matches won against the prompt's other drafts, in [0, 1]; else rewards."""

    @property
    def shares(self) -> bool: ...

    def verdicts(self, groups: Sequence[Group]) -> DraftScores: ...


@dataclass(frozen=True)
class ByRewards:
    """The weighted sum of rewards. Raises NonFiniteError for a reward that is no finite number."""

    rewards: Rewards
    shares = False

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        said = self.rewards.rate(groups)
        if len(said) == 1:
            return DraftScores(self.rewards.total(said))
        means = {f"reward/{name}": sum(map(sum, rows)) / sum(map(len, rows)) for name, rows in said.items()}
        return DraftScores(self.rewards.total(said), means)
