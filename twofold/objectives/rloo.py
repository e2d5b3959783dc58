"""REINFORCE leave-one-out (RLOO): a completion is one action. Its baseline is the mean reward of the prompt's others.

Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in
LLMs", arXiv:2402.14740, section 3.3.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, logps, trait
from twofold.objectives.importance import draft_weighted
from twofold.objectives.surrogate import advantages, clipped, moves, rollout_metrics, stopped
from twofold.settings import require, settings


@settings
class RLOO(Objective):
    """−A·log π of each completion, A = its reward − the mean reward of the prompt's other completions. With a clip:
    −min(ρ·A, clip(ρ, 1 ± ε)·A), ρ = π/π_old of the whole completion."""

    kind: Literal["rloo"] = "rloo"
    clip: float | None = None
    """ε: clip range of the completion's probability ratio. Required if a rollout is used for several steps."""

    data_kind = "prompts"
    comparison = ("leave_one_out", "none")

    def __post_init__(self) -> None:
        require(self.clip is None or 0 < self.clip < 1, "clip must be in (0, 1)")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("advantage",) if self.clip is None else ("old_logp", "advantage")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logp_B = batch.sum(logps(outputs))
        advantage_B = advantages(batch, logp_B.dtype)
        if self.clip is None:
            loss_B = draft_weighted(-advantage_B * logp_B, batch)
            return Loss({"rloo": Term(loss_B, "branch")}, rollout_metrics(outputs, batch))
        ratio_B = batch.sum(moves(outputs, batch)).exp()
        loss_B = draft_weighted(-clipped(advantage_B, ratio_B, self.clip), batch)
        clip = Term(stopped(advantage_B, ratio_B, self.clip), "branch")
        seen = {"ratio": Term(ratio_B.detach(), "branch"), "clipped": clip, **rollout_metrics(outputs, batch)}
        return Loss({"rloo": Term(loss_B, "branch")}, seen)
