"""REINFORCE, with the KL in the reward.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning" (no arXiv
id). KL in the reward: Ziegler et al. 2019, arXiv:1909.08593, equation 2.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Baseline, Loss, Objective, Scale, Term, logps, trait
from twofold.objectives.importance import draft_weighted
from twofold.objectives.surrogate import advantages, rollout_metrics
from twofold.settings import settings


@settings
class Reinforce(Objective):
    """−A·log π of each completion, A = its reward − the rollout's mean. It has no ratio, so samples must come from the
    current policy."""

    kind: Literal["reinforce"] = "reinforce"
    baseline: Baseline = "rollout"
    """What is subtracted from a reward: the mean of the prompt's other completions, of the prompt, of the rollout, or
    nothing."""

    requires = ("advantage",)
    data_kind = "prompts"

    @trait
    def comparison(self) -> tuple[Baseline | None, Scale]:
        return self.baseline, "none"

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logp_B = batch.sum(logps(outputs))
        loss_B = draft_weighted(-advantages(batch, logp_B.dtype) * logp_B, batch)
        return Loss({"reinforce": Term(loss_B, "branch")}, rollout_metrics(outputs, batch))
