"""InfoNCA: DPO on K completions with scores. With two completions and α = 0 it is DPO.

Chen, He, Yuan, Cui, Su and Zhu 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
arXiv:2402.05369.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.batch import Batch
from twofold.objectives.rankings import OnScoredRankings, log_share
from twofold.settings import settings


@settings
class InfoNCA(OnScoredRankings):
    """−Σ softmax(score/α)·log softmax(r) over the completions of a group, r = β·log-ratio. It trains a classifier of
    the best completion with soft labels."""

    kind: Literal["infonca"] = "infonca"

    def loss(self, reward_B: Tensor, share_B: Tensor, batch: Batch) -> Tensor:
        return batch.sum_groups(-share_B * log_share(reward_B, batch))
