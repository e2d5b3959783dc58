"""Efficient exact optimization (EXO): the reverse KL from policy to preference. DPO minimizes the forward KL.

Ji, Lu, Niu, Ke, Wang, Zhu, Tang and Huang 2024, "Towards Efficient Exact Optimization of Language Model Alignment",
arXiv:2402.00856, equation 16.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import require, settings


def reverse_kl(margin_P: Tensor, epsilon: float) -> Tensor:
    """KL of the policy's preference at this margin from the smoothed label; at most log 1/ε."""
    agree_P = torch.sigmoid(margin_P) * (logsigmoid(margin_P) - math.log1p(-epsilon))
    differ_P = torch.sigmoid(-margin_P) * (logsigmoid(-margin_P) - math.log(epsilon))
    return agree_P + differ_P


@settings
class EXO(OnPairRewards):
    """KL((σ(margin), σ(−margin)) ‖ (1 − ε, ε))."""

    kind: Literal["exo"] = "exo"
    epsilon: float = 0.001
    """Probability that a label is wrong. At 0 the loss is infinite."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.epsilon < 0.5, "epsilon must be in (0, 0.5)")

    def loss(self, reward: Sides) -> Tensor:
        return reverse_kl(reward.margin, self.epsilon)
