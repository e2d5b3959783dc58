"""NCA on K completions with scores. With two completions and α = 0 it is `nca.py`.

Chen, He, Yuan, Cui, Su and Zhu 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
arXiv:2402.05369.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch
from twofold.objectives.nca import contrast
from twofold.objectives.rankings import OnScoredRankings
from twofold.settings import settings


@settings
class NCAK(OnScoredRankings):
    """−Σ [softmax(score/α)·log σ(r) + log σ(−r)/K] over the K completions of a group, r = β·log-ratio."""

    kind: Literal["nca_k"] = "nca_k"

    def loss(self, reward_B: Tensor, share_B: Tensor, batch: Batch) -> Tensor:
        count_B = torch.bincount(batch.group_B)[batch.group_B]
        return batch.sum_groups(contrast(reward_B, share_B, count_B))
