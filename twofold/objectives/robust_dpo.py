"""Robust DPO: a loss whose mean over randomly flipped labels is DPO's loss on the true labels.

Chowdhury, Kini and Natarajan 2024, "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
arXiv:2403.00409.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.objectives.pair_losses import unbiased
from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import require, settings


@settings
class RobustDPO(OnPairRewards):
    """[(1 − ε)·(−log σ(margin)) − ε·(−log σ(−margin))] / (1 − 2ε). It is unbounded below as the margin grows."""

    kind: Literal["robust_dpo"] = "robust_dpo"
    epsilon: float = 0.1
    """Probability that a label is flipped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.epsilon < 0.5, "epsilon must be in [0, 0.5)")

    def loss(self, reward: Sides) -> Tensor:
        return unbiased(reward.margin, self.epsilon)
