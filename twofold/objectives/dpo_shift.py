"""DPO-Shift: DPO with a smaller weight on the rejected reward, so that chosen does not have to fall.

Yang, Jiang, Zhang, Zhao and Li 2025, "DPO-Shift: Shifting the Distribution of Direct Preference Optimization",
arXiv:2502.07599.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import require, settings


@settings
class DPOShift(OnPairRewards):
    """−log σ(β·log-ratio of chosen − f·β·log-ratio of rejected)."""

    kind: Literal["dpo_shift"] = "dpo_shift"
    f: float = 0.9
    """The paper's f(λ). 1 is DPO. A lower value raises chosen more and makes the margin smaller."""

    remedy = "a smaller objective.f"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.f <= 1, "f must be in (0, 1]")

    def loss(self, reward: Sides) -> Tensor:
        return logistic(reward.chosen - self.f * reward.rejected)
