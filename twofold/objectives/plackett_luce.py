"""Rafailov, Sharma, Mitchell, Ermon, Manning and Finn 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290, appendix A.3, equation 20: DPO on rankings, after Plackett and Luce.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, logps, logratios
from twofold.objectives.links import logistic
from twofold.objectives.rankings import below, metrics
from twofold.settings import require, settings


@settings
class PlackettLuce:
    """−Σₖ log(e^{rₖ} / Σ_{j ≥ k} e^{rⱼ}) over the ranks k of a group, r = β·log-ratio: each completion is the best of
    those not yet taken. Two completions make it DPO; groups may differ in size, and none is divided by it."""

    kind: Literal["plackett_luce"] = "plackett_luce"
    beta: float = 0.1
    """Strength of the pull towards the reference."""

    requires = ("ref_logp",)
    learns_from = "rankings"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Branches stand in the order of their ranks; a group of one alone raises ValueError."""
        worse_BB = below(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        contest = worse_BB.any(1).nonzero().squeeze(1)
        rivals_BB = reward_B.expand(len(reward_B), -1).masked_fill(~worse_BB, -torch.inf)
        loss_C = logistic(reward_B[contest] - rivals_BB[contest].logsumexp(1))
        loss_G = reward_B.new_zeros(len(batch.names)).index_add(0, batch.group_B[contest], loss_C)
        seen = metrics(reward_B, logps(outputs), worse_BB, batch)
        return Loss({"plackett_luce": Term(loss_G, "group")}, seen)
