"""Kahneman–Tversky optimization (KTO): learns from single completions that are labeled desirable or undesirable.

Ethayarajh, Xu, Muennighoff, Jurafsky and Kiela 2024, "KTO: Model Alignment as Prospect Theoretic Optimization",
arXiv:2402.01306, equation 8. With z₀ = 0 it is the zero loss of anchored preference optimization on single labels: one
side of equation 7 of D'Oosterlinck et al. 2024, arXiv:2408.06266.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference, logps, logratios, trait
from twofold.objectives.labels import labels, metrics
from twofold.settings import require, settings


@settings
class KTO(WithReference):
    """λ_D·(1 − σ(β·(log-ratio − z₀))) of a desirable completion, λ_U·(1 − σ(β·(z₀ − log-ratio))) of an undesirable one.
    The reference point z₀ estimates KL(π ‖ π_ref) over the whole step and has no gradient."""

    kind: Literal["kto"] = "kto"
    desirable_weight: float = 1.0
    """λ_D. The paper recommends λ_D·n_D / (λ_U·n_U) in [1, 3/2], where n is the number of rows with each label."""
    undesirable_weight: float = 1.0
    """λ_U."""
    z0: Literal["estimate", "zero"] = "estimate"
    """zero sets z₀ = 0: no KL is estimated, which saves its forward passes."""

    data_kind = "labels"
    remedy = "a larger objective.desirable_weight"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.desirable_weight > 0, "desirable_weight must be > 0")
        require(self.undesirable_weight > 0, "undesirable_weight must be > 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("ref_logp", "z0") if self.z0 == "estimate" else ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Raises ValueError for a branch that is neither desirable nor undesirable."""
        desirable_B = labels(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        z0_B = batch.branch_columns["z0"] if self.z0 == "estimate" else torch.zeros_like(reward_B)
        lead_B = reward_B - self.beta * z0_B.to(reward_B.dtype)
        gain_B = torch.where(desirable_B, lead_B, -lead_B)
        miss_B = torch.sigmoid(-gain_B)
        loss_B = torch.where(desirable_B, self.desirable_weight * miss_B, self.undesirable_weight * miss_B)
        seen = metrics(reward_B, logps(outputs), gain_B, loss_B * torch.sigmoid(gain_B), batch)
        estimate = {"z0": Term(z0_B, "branch")} if self.z0 == "estimate" else {}
        return Loss({"kto": Term(loss_B, "branch")}, {**seen, **estimate})
