"""DPO-Positive (DPOP): DPO with a penalty inside the sigmoid when chosen is less likely than under the reference model.

Pal, Karkhanis, Dooley, Roberts, Naidu and White 2024, "Smaug: Fixing Failure Modes of Preference Optimisation with
DPO-Positive", arXiv:2402.13228.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.objectives.pair_losses import hinge, logistic
from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import require, settings


@settings
class DPOP(OnPairRewards):
    """−log σ(β·[log-ratio of chosen − log-ratio of rejected − λ·max(0, −log-ratio of chosen)])."""

    kind: Literal["dpop"] = "dpop"
    beta: float = 0.3
    lam: float = 50.0
    """λ. 0 is DPO."""

    remedy = "a larger objective.lam, or a lower learning rate"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lam >= 0, "lam must be ≥ 0")

    def loss(self, reward: Sides) -> Tensor:
        return logistic(reward.margin - self.lam * hinge(reward.chosen, 0.0))
