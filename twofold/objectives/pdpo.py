"""The generator of Proximal DPO (Hepan 2024, github.com/newtonysls/PDPO): drafts are pulled up to the truth's reward.

gap = sg[β·log π/π_ref(y_GT)] − β·log π/π_ref(y), y ~ π; only log π(y) carries gradient; the hinge stops at equality.
No arXiv id exists. Discriminator and schedule are `algorithms/pdpo.py`. The source has the forms hinge and unhinged;
the rest are options. Leave-one-out: RLOO (arXiv:2402.14740); clip: PPO (arXiv:1707.06347); sign down: SPIN
(arXiv:2401.01335) with the truth held fixed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, logps, logratios
from twofold.objectives.surrogate import clipped
from twofold.settings import require, settings

Form = Literal["hinge", "unhinged", "softplus", "squared_hinge", "square"]
Gate = Literal["none", "verifier"]
Baseline = Literal["none", "leave_one_out"]
Sign = Literal["up", "down"]


def generator_loss(gap_B: Tensor, form: Form) -> Tensor:
    """The loss per draft. The hinge is strict: at a gap of exactly 0 (policy equals reference) its gradient is 0."""
    if form == "unhinged":
        return gap_B
    if form == "softplus":
        return softplus(gap_B)
    if form == "square":
        return 0.5 * gap_B.square()
    open_B = torch.where(gap_B > 0, gap_B, torch.zeros_like(gap_B))
    return open_B if form == "hinge" else 0.5 * open_B.square()


def pull(gap_B: Tensor, form: Form) -> Tensor:
    """How hard each draft is pulled, held fixed: the derivative of `generator_loss`."""
    gap_B = gap_B.detach()
    if form == "unhinged":
        return torch.ones_like(gap_B)
    if form == "softplus":
        return gap_B.sigmoid()
    if form == "square":
        return gap_B
    return (gap_B > 0).to(gap_B.dtype) if form == "hinge" else gap_B.clamp(min=0)


def leave_one_out(pull_B: Tensor, batch: Batch) -> Tensor:
    """Each pull less the mean pull of the group's other drafts; 0 for a draft without others."""
    zero_G, group_B = pull_B.new_zeros(len(batch.names)), batch.group_B
    others_B = zero_G.index_add(0, group_B, torch.ones_like(pull_B))[group_B] - 1
    total_B = zero_G.index_add(0, group_B, pull_B)[group_B]
    advantage_B = pull_B - (total_B - pull_B) / others_B.clamp(min=1)
    return torch.where(others_B > 0, advantage_B, torch.zeros_like(pull_B))


def ratios(outputs: Outputs, batch: Batch) -> Tensor:
    """How many times as likely each draft is as it was when it was drawn."""
    logp_S = logps(outputs)
    return batch.sum(logp_S - batch.token_columns["old_logp"].to(logp_S.dtype)).exp()


@settings
class PDPOGenerator:
    """max(gap, 0), averaged over the drafts kept; the options are off by default."""

    kind: Literal["pdpo_generator"] = "pdpo_generator"
    beta: float = 0.1
    """As the discriminator's."""
    form: Form = "hinge"
    """unhinged, the source's first form, is an ablation: it has no stop; square pulls both ways, as a KL does."""
    per_token: bool = False
    """Divide log-ratios by length; β must then grow by about the mean length."""
    margin: float = 0.0
    """Added to the gap: drafts are pulled until they are this much beyond the truth."""
    sign: Sign = "up"
    """down pushes drafts below the truth's reward, as SPIN does: the gap changes its sign."""
    gate: Gate = "none"
    """verifier lets right drafts alone be pulled up, wrong ones alone be pushed down (the column `correct`)."""
    baseline: Baseline = "none"
    """leave_one_out takes from each draft's pull the mean pull of the other drafts of its prompt."""
    clip: float | None = None
    """Stop where a stale draft has become 1 + this times as likely as when it was drawn (the column `old_logp`)."""

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.clip is None or 0 < self.clip < 1, "clip must be in (0, 1)")
        alike = self.form == "unhinged" and self.gate == "none" and not self.per_token
        require(self.baseline == "none" or not alike, "unhinged pulls all drafts alike: leave_one_out leaves nothing")

    @property
    def requires(self) -> tuple[str, ...]:
        gated = ("correct",) if self.gate == "verifier" else ()
        stale = ("old_logp",) if self.clip is not None else ()
        return ("ref_logp", "truth_logratio", "truth_length", *gated, *stale)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logratio_B = batch.sum(logratios(outputs, batch))
        length_B = batch.length_B.to(logratio_B.dtype)
        draft_reward_B = self.beta * logratio_B
        truth_reward_B = self.beta * batch.branch_columns["truth_logratio"].to(logratio_B.dtype)
        if self.per_token:
            draft_reward_B = draft_reward_B / length_B
            truth_reward_B = truth_reward_B / batch.branch_columns["truth_length"].to(logratio_B.dtype)
        gap_B = truth_reward_B - draft_reward_B
        opening_B = (gap_B if self.sign == "up" else -gap_B) + self.margin
        passed_B = self._passed(batch, gap_B.dtype)
        metrics = {
            "gap": gap_B,
            "active": (opening_B > 0) * passed_B,
            "draft_reward": draft_reward_B,
            "truth_reward": truth_reward_B,
            "draft_logp": batch.sum(logps(outputs)),
            "draft_kl": logratio_B,
            "draft_length": length_B,
        }
        if self.clip is not None:
            metrics["ratio"] = ratios(outputs, batch)
        if self.baseline == "none" and self.clip is None:
            loss_B = passed_B * generator_loss(opening_B, self.form)
        else:
            loss_B = self._surrogate(passed_B * pull(opening_B, self.form), outputs, batch)
        return Loss({"pdpo": Term(loss_B, "branch")}, {k: Term(v.detach(), "branch") for k, v in metrics.items()})

    def _surrogate(self, pull_B: Tensor, outputs: Outputs, batch: Batch) -> Tensor:
        """A loss with the gradient of the form itself, less the baseline's, which stops at the clip."""
        if self.per_token:
            pull_B = pull_B / batch.length_B
        advantage_B = pull_B if self.baseline == "none" else leave_one_out(pull_B, batch)
        if self.sign == "down":
            advantage_B = -advantage_B
        if self.clip is None:
            return -self.beta * advantage_B * batch.sum(logps(outputs))
        return -self.beta * clipped(advantage_B, ratios(outputs, batch), self.clip)

    def _passed(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        """1 for each draft that the gate lets through."""
        if self.gate == "none":
            return torch.ones_like(batch.length_B, dtype=dtype)
        correct_B = batch.branch_columns["correct"].to(dtype)
        return correct_B if self.sign == "up" else 1 - correct_B
