"""D'Oosterlinck, Xu, Develder, Demeester, Singh, Potts, Kiela and Mehri 2024, "Anchored Preference Optimization and
Contrastive Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266, equations 7 (zero) and 8 (down).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import settings


@settings
class AnchoredPO(OnPairRewards):
    """zero: chosen up, rejected down. down: chosen down, rejected further down. Both against the reference."""

    kind: Literal["anchored_po"] = "anchored_po"
    anchor: Literal["zero", "down"] = "zero"
    """zero where chosen is better than what the model says by itself, down where it is worse."""

    def loss(self, reward: Sides) -> Tensor:
        if self.anchor == "zero":
            return torch.sigmoid(-reward.chosen) + torch.sigmoid(reward.rejected)
        return torch.sigmoid(reward.chosen) + torch.sigmoid(-reward.margin)
