"""BCO on pairs: chosen and rejected are two examples of a binary classifier, without the paper's reward shift.

Jung, Han, Nam and On 2024, "Binary Classifier Optimization for Large Language Model Alignment", arXiv:2404.04656.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import OnPairRewards, Sides
from twofold.settings import settings


@settings
class BCOPair(OnPairRewards):
    """−log σ(r of chosen) − log σ(−r of rejected), r = β·log-ratio."""

    kind: Literal["bco_pair"] = "bco_pair"

    def loss(self, reward: Sides) -> Tensor:
        return logistic(reward.chosen) + logistic(-reward.rejected)
