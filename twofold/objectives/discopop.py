"""DiscoPOP: the log-ratio modulated loss, a mixture of the logistic and the exponential loss.

Lu, Holt, Fanconi, Chan, Foerster, van der Schaar and Lange 2024, "Discovering Preference Optimization Algorithms with
and for Large Language Models", arXiv:2406.08414, equation 5.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import require, settings


def modulated(margin_P: Tensor, tau: float) -> Tensor:
    """Logistic below a margin of 0, exponential above. A single exponent avoids a product of 0 and ∞."""
    return torch.sigmoid(-margin_P / tau) * logistic(margin_P) + (logsigmoid(margin_P / tau) - margin_P).exp()


@settings
class DiscoPOP(OnPairRewards):
    """(1 − m)·(−log σ(margin)) + m·exp(−margin), m = σ(margin/τ)."""

    kind: Literal["discopop"] = "discopop"
    beta: float = 0.05
    tau: float = 0.05
    """How sharply the loss changes from logistic to exponential at a margin of 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.tau <= 1, "tau must be in (0, 1]")

    def loss(self, reward: Sides) -> Tensor:
        return modulated(reward.margin, self.tau)
