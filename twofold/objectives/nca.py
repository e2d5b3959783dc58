"""NCA on pairs: it optimizes absolute rewards, not only their difference. `nca_k.py` is NCA on more completions.

Chen, He, Yuan, Cui, Su and Zhu 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
arXiv:2402.05369.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import settings


def contrast(reward: Tensor, share: Tensor | float, count: Tensor | int) -> Tensor:
    """−share·log σ(r) − log σ(−r)/count of a completion with reward r that is the best of `count` with probability
    `share`: the two terms of noise-contrastive classification."""
    return share * logistic(reward) + logistic(-reward) / count


@settings
class NCA(OnPairRewards):
    """−log σ(r of chosen) − ½·log σ(−r of chosen) − ½·log σ(−r of rejected), r = β·log-ratio."""

    kind: Literal["nca"] = "nca"
    beta: float = 0.01

    def loss(self, reward: Sides) -> Tensor:
        return contrast(reward.chosen, 1, 2) + contrast(reward.rejected, 0, 2)
