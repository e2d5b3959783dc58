"""The generator of Proximal DPO (Hepan 2024, github.com/newtonysls/PDPO): drafts are pulled up to the ground truth's
implicit reward.

gap = sg[β·log π/π_ref(y_GT)] − β·log π/π_ref(y), y ~ π. Only log π(y) has a gradient. The hinge stops at equality.
There is no arXiv id. Discriminator and schedule are in `algorithms/pdpo.py`. The source has the forms hinge and
unhinged; the rest are options. Leave-one-out: RLOO (arXiv:2402.14740). clip: PPO (arXiv:1707.06347). direction down:
SPIN (arXiv:2401.01335) with a constant ground truth; with gradient_to both, SPIN itself. kl: `kl.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Loss, Objective, Term, logps, logratios, trait
from twofold.objectives.importance import draft_weighted
from twofold.objectives.kl import k2
from twofold.objectives.surrogate import clipped, moves
from twofold.settings import require, settings

Form = Literal["hinge", "unhinged", "softplus", "square"]
Gate = Literal["none", "verifier", "judge"]
Direction = Literal["up", "down"]
GradientTo = Literal["drafts", "truth", "both"]
_UNIT = "branch:draft"


def generator_loss(gap_B: Tensor, form: Form) -> Tensor:
    """The loss per draft. The hinge is strict: at a gap of exactly 0 (policy equals reference) its gradient is 0."""
    match form:
        case "unhinged":
            return gap_B
        case "softplus":
            return softplus(gap_B)
        case "square":
            return 0.5 * gap_B.square()
        case "hinge":
            return torch.where(gap_B > 0, gap_B, torch.zeros_like(gap_B))


def gap_weight(gap_B: Tensor, form: Form) -> Tensor:
    """The gradient weight of each draft, without gradient: the derivative of `generator_loss`."""
    gap_B = gap_B.detach()
    match form:
        case "unhinged":
            return torch.ones_like(gap_B)
        case "softplus":
            return gap_B.sigmoid()
        case "square":
            return gap_B
        case "hinge":
            return (gap_B > 0).to(gap_B.dtype)


def leave_one_out(weight_B: Tensor, batch: Batch) -> Tensor:
    """Each weight minus the mean weight of the group's other drafts; 0 for a single draft."""
    others_B = batch.sum_groups(torch.ones_like(weight_B))[batch.group_B] - 1
    total_B = batch.sum_groups(weight_B)[batch.group_B]
    advantage_B = weight_B - (total_B - weight_B) / others_B.clamp(min=1)
    return torch.where(others_B > 0, advantage_B, torch.zeros_like(weight_B))


def ratios(outputs: Outputs, batch: Batch) -> Tensor:
    """The probability ratio of each draft to the time when it was sampled."""
    return batch.sum(moves(outputs, batch)).exp()


@settings
class GeneratorSettings:
    """How a draft's gap to the ground truth becomes a loss. All options are off by default."""

    form: Form = "hinge"
    """unhinged, the source's first form, is an ablation: nothing stops it. square pulls in both directions, as a KL
    does."""
    per_token: bool = False
    """Compare log-ratios per token instead of per completion. γ (or β) must then be about the mean length times
    larger."""
    margin: float = 0.0
    """Added to the gap: drafts are pulled up until their implicit reward exceeds the ground truth's by this much."""
    direction: Direction = "up"
    """down pushes drafts below the ground truth's implicit reward, as SPIN does. The gap changes its sign."""
    gradient_to: GradientTo = "drafts"
    """What the gradient moves. `truth`: the ground truth, where it is below a draft. `both`: it and the drafts; with
    direction down this is SPIN."""
    gate: Gate = "none"
    """verifier, judge: only drafts that it accepts are pulled up. With direction down, only the others are pushed
    down."""
    baseline: Literal["none", "leave_one_out"] = "none"
    """leave_one_out subtracts from each draft's weight the mean weight of the other drafts of its prompt."""
    clip: float | None = None
    """A stale draft has no gradient once it is 1 + this times as likely as when it was sampled."""
    kl: float = 0.0
    """Weight of an on-policy KL to the reference model: Σ ½(log π/π_ref)² over a draft's tokens, for any gap."""

    def __post_init__(self) -> None:
        require(self.clip is None or 0 < self.clip < 1, "clip must be in (0, 1)")
        require(self.kl >= 0, "kl must be ≥ 0")
        alike = self.form == "unhinged" and self.gate == "none" and not self.per_token
        require(self.baseline == "none" or not alike, "unhinged pulls all drafts alike: leave_one_out leaves nothing")
        drafts = self.direction == "up" and self.baseline == "none" and self.clip is None
        require(
            self.gradient_to != "truth" or drafts,
            "`gradient_to: truth` moves no draft: direction, baseline and clip do nothing",
        )
        both_ways = self.form == "square" and self.gradient_to != "drafts"
        require(not both_ways, "square pushes the ground truth down too: gradient_to needs another form")


@settings
class PDPOGenerator(GeneratorSettings, Objective):
    """max(gap, 0), averaged over the drafts in use. If the ground truth is trained too, it is a branch of its drafts'
    group. The column `correct` contains the gate's verdict."""

    kind: Literal["pdpo_generator"] = "pdpo_generator"
    beta: float = 0.1
    """The same as the discriminator's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, "beta must be > 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        length = ("truth_length",) if self.per_token else ()
        truth = ("truth_logratio", *length) if self.gradient_to == "drafts" else ()
        gated = ("correct",) if self.gate != "none" else ()
        stale = ("old_logp",) if self.clip is not None else ()
        return ("ref_logp", *truth, *gated, *stale)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        drafts, said = batch.only(Role.DRAFT, outputs)
        logratio_S = logratios(said, drafts)
        logratio_B = drafts.sum(logratio_S)
        draft_reward_B = self._reward(logratio_B, drafts.length_B)
        truth_reward_B = self._truth_reward(outputs, batch, drafts)
        gap_B = truth_reward_B.detach() - draft_reward_B
        hinge_arg_B = (gap_B if self.direction == "up" else -gap_B) + self.margin
        passed_B = self._judged(drafts, gap_B.dtype, right=self.direction == "up")
        metrics = {
            "gap": gap_B,
            "active": (hinge_arg_B > 0) * passed_B,
            "draft_reward": draft_reward_B,
            "truth_reward": truth_reward_B,
            "draft_logp": drafts.sum(logps(said)),
            "draft_kl": logratio_B,
            "draft_length": drafts.length_B.to(logratio_B.dtype),
        }
        if self.clip is not None:
            metrics["ratio"] = ratios(said, drafts)
        terms: dict[str, Term] = {}
        if self.gradient_to == "truth":
            del metrics["active"]
        elif self.baseline == "none" and self.clip is None:
            terms["pdpo"] = Term(passed_B * generator_loss(hinge_arg_B, self.form), _UNIT)
        else:
            terms["pdpo"] = Term(self._surrogate(passed_B * gap_weight(hinge_arg_B, self.form), said, drafts), _UNIT)
        if self.gradient_to != "drafts":
            below_B = draft_reward_B.detach() - truth_reward_B + self.margin
            wrong_B = self._judged(drafts, gap_B.dtype, right=False)
            terms["truth"] = Term(wrong_B * generator_loss(below_B, self.form), _UNIT)
            metrics["truth_active"] = (below_B > 0) * wrong_B
        if self.kl:
            terms["kl"] = Term(drafts.sum(k2(logratio_S)), _UNIT, self.kl)
        terms = {name: replace(term, value=draft_weighted(term.value, drafts)) for name, term in terms.items()}
        return Loss(terms, {k: Term(v.detach(), _UNIT) for k, v in metrics.items()})

    def _reward(self, logratio_B: Tensor, length_B: Tensor) -> Tensor:
        reward_B = self.beta * logratio_B
        return reward_B / length_B.to(reward_B.dtype) if self.per_token else reward_B

    def _truth_reward(self, outputs: Outputs, batch: Batch, drafts: Batch) -> Tensor:
        """The value of each draft's ground truth: a column, or that of its own branch if it is trained."""
        if self.gradient_to == "drafts":
            columns = drafts.branch_columns
            logratio_B = columns["truth_logratio"].to(logps(outputs).dtype)
            return self._reward(logratio_B, columns["truth_length"] if self.per_token else drafts.length_B)
        truths, said = batch.only(Role.TRUTH, outputs)
        reward_B = self._reward(truths.sum(logratios(said, truths)), truths.length_B)
        return drafts.from_groups_of(truths, reward_B)

    def _surrogate(self, weight_B: Tensor, outputs: Outputs, batch: Batch) -> Tensor:
        """A loss with the gradient of the form minus the baseline, and none beyond the clip."""
        if self.per_token:
            weight_B = weight_B / batch.length_B
        advantage_B = weight_B if self.baseline == "none" else leave_one_out(weight_B, batch)
        if self.direction == "down":
            advantage_B = -advantage_B
        if self.clip is None:
            return -self.beta * advantage_B * batch.sum(logps(outputs))
        return -self.beta * clipped(advantage_B, ratios(outputs, batch), self.clip)

    def _judged(self, batch: Batch, dtype: torch.dtype, *, right: bool) -> Tensor:
        """1 for each draft that the gate accepts (direction down: rejects), else 0; without a gate 1 for all drafts."""
        if self.gate == "none":
            return torch.ones_like(batch.length_B, dtype=dtype)
        correct_B = batch.branch_columns["correct"].to(dtype)
        return correct_B if right else 1 - correct_B
