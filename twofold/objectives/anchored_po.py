"""D'Oosterlinck, Xu, Develder, Demeester, Singh, Potts, Kiela and Mehri 2024, "Anchored Preference Optimization and
Contrastive Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266, equations 7 (zero) and 8 (down).
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class AnchoredPO(Objective):
    """zero: chosen up, rejected down. down: chosen down, rejected further down. Both against the reference."""

    kind: Literal["anchored_po"] = "anchored_po"
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    anchor: Literal["zero", "down"] = "zero"
    """zero where chosen is better than what the model says by itself, down where it is worse."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        if self.anchor == "zero":
            loss_P = torch.sigmoid(-reward.chosen) + torch.sigmoid(reward.rejected)
        else:
            loss_P = torch.sigmoid(reward.chosen) + torch.sigmoid(-reward.margin)
        return Loss({"anchored_po": Term(loss_P, "pair")}, pairs.metrics(reward))
