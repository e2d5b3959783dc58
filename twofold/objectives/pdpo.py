"""The generator of Proximal DPO (Hepan 2024, github.com/newtonysls/PDPO): drafts are pulled up to the truth's reward.

gap = sg[β·log π/π_ref(y_GT)] − β·log π/π_ref(y), y ~ π; only log π(y) carries gradient; the hinge stops at equality.
No arXiv id exists. Discriminator and schedule are `algorithms/pdpo.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, logps, logratios
from twofold.settings import require, settings

Form = Literal["hinge", "unhinged", "softplus", "squared_hinge"]


def generator_loss(gap_B: Tensor, form: Form) -> Tensor:
    """The loss per draft. The hinge is strict: at a gap of exactly 0 (policy equals reference) its gradient is 0."""
    if form == "unhinged":
        return gap_B
    if form == "softplus":
        return softplus(gap_B)
    open_B = torch.where(gap_B > 0, gap_B, torch.zeros_like(gap_B))
    return open_B if form == "hinge" else 0.5 * open_B.square()


@settings
class PDPOGenerator:
    """max(gap, 0), averaged over the drafts kept."""

    kind: Literal["pdpo_generator"] = "pdpo_generator"
    beta: float = 0.1
    """As the discriminator's."""
    form: Form = "hinge"
    """unhinged is the source's first form, kept as an ablation: it has no stop."""
    per_token: bool = False
    """Divide log-ratios by length; β must then grow by about the mean length."""

    requires = ("ref_logp", "truth_logratio", "truth_length")

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logratio_B = batch.sum(logratios(outputs, batch))
        truth_B = batch.branch_columns["truth_logratio"].to(logratio_B.dtype)
        length_B = batch.length_B.to(logratio_B.dtype)
        if self.per_token:
            draft_reward_B = self.beta * logratio_B / length_B
            truth_reward_B = self.beta * truth_B / batch.branch_columns["truth_length"].to(logratio_B.dtype)
        else:
            draft_reward_B, truth_reward_B = self.beta * logratio_B, self.beta * truth_B
        gap_B = truth_reward_B - draft_reward_B
        metrics = {
            "gap": gap_B,
            "active": (gap_B > 0).to(gap_B.dtype),
            "draft_reward": draft_reward_B,
            "truth_reward": truth_reward_B,
            "draft_logp": batch.sum(logps(outputs)),
            "draft_kl": logratio_B,
            "draft_length": length_B,
        }
        loss_B = generator_loss(gap_B, self.form)
        return Loss({"pdpo": Term(loss_B, "branch")}, {k: Term(v.detach(), "branch") for k, v in metrics.items()})
