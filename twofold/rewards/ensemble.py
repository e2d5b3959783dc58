"""Several rewards as one: their mean, their minimum, or the mean minus the standard deviation.

A policy that exploits the faults of one reward model gains less from several (Coste et al. 2024, arXiv:2310.02743;
Eisenstein et al. 2024, arXiv:2312.09244).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from twofold.batch import Group
from twofold.rewards.base import Reward

How = Literal["mean", "min", "lower"]
HOWS: tuple[How, ...] = get_args(How)


def combined(how: How, scores: ArrayLike) -> list[float]:
    """One score for each of [rewards, completions]. `lower` is the mean minus the standard deviation, whose divisor is
    the number of rewards. NaN if one of them is."""
    score_MN = np.asarray(scores, dtype=np.float64)
    if how == "min":
        return score_MN.min(0).tolist()
    mean_N = score_MN.mean(0)
    return (mean_N if how == "mean" else mean_N - score_MN.std(0)).tolist()


@dataclass(frozen=True)
class EnsembleReward:
    """Rewards of a policy's samples as one."""

    rewards: Sequence[Reward]
    how: How

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        each = [reward.rate(groups) for reward in self.rewards]
        return [combined(self.how, several) for several in zip(*each, strict=True)]
