"""Chen, He, Yuan, Cui, Su and Zhu 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
arXiv:2402.05369: NCA on K completions with scores. With two of them and α = 0 it is `nca.py`.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, logps, logratios, trait
from twofold.objectives.nca import contrast
from twofold.objectives.rankings import below, label, metrics
from twofold.settings import require, settings


@settings
class NCAK(Objective):
    """−Σ [softmax(score/α)·log σ(r) + log σ(−r)/K] over the K completions of a group, r = β·log-ratio."""

    kind: Literal["nca_k"] = "nca_k"
    beta: float = 0.01
    """Strength of the pull towards the reference."""
    alpha: float = 1.0
    """Temperature of the scores, in their unit; 0 takes the best alone for good and reads no scores."""

    data_kind = "rankings"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.alpha >= 0, "alpha must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("ref_logp", "score") if self.alpha > 0 else ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Branches stand in the order of their ranks; a group of one alone raises ValueError."""
        worse_BB = below(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        share_B = label(worse_BB, batch, self.alpha).to(reward_B.dtype)
        count_B = torch.bincount(batch.group_B)[batch.group_B]
        loss_G = batch.sum_groups(contrast(reward_B, share_B, count_B))
        seen = metrics(reward_B, logps(outputs), worse_BB, batch)
        return Loss({"nca_k": Term(loss_G, "group")}, seen)
