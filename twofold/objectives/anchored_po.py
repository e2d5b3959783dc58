"""Anchored preference optimization (APO): each side of a pair moves relative to the reference model.

D'Oosterlinck, Xu, Develder, Demeester, Singh, Potts, Kiela and Mehri 2024, "Anchored Preference Optimization and
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
    """zero: raise chosen and lower rejected, relative to the reference. down: lower chosen and lower rejected more."""

    kind: Literal["anchored_po"] = "anchored_po"
    anchor: Literal["zero", "down"] = "zero"
    """Use zero if chosen is better than the model's own samples, and down if it is worse."""

    def loss(self, reward: Sides) -> Tensor:
        if self.anchor == "zero":
            return torch.sigmoid(-reward.chosen) + torch.sigmoid(reward.rejected)
        return torch.sigmoid(reward.chosen) + torch.sigmoid(-reward.margin)
