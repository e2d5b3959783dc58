"""Rafailov, Sharma, Mitchell, Ermon, Manning and Finn 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290, appendix A.3, equation 20: DPO on rankings, after Plackett and Luce.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Loss, Term, logps, logratios
from twofold.objectives.links import logistic
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
        metrics = _metrics(reward_B.detach(), logps(outputs).detach(), worse_BB, batch)
        return Loss({"plackett_luce": Term(loss_G, "group")}, metrics)


def below(batch: Batch) -> Tensor:
    """Whether completion j stands below completion i in one ranking [B, B] (i, j)."""
    rank_B = torch.arange(batch.num_branches, device=batch.group_B.device)
    worse_BB = (batch.group_B[:, None] == batch.group_B) & (rank_B[:, None] < rank_B)
    sizes_G = torch.bincount(batch.group_B[batch.of_role(Role.RANKED)], minlength=len(batch.names))
    if int(sizes_G.min()) < 2 or int(sizes_G.sum()) < batch.num_branches:
        raise ValueError("every group needs two or more ranked branches, and no others")
    return worse_BB


def _metrics(reward_B: Tensor, logp_S: Tensor, worse_BB: Tensor, batch: Batch) -> dict[str, Term]:
    """Of each ranking: whether rewards repeat all of it (strictly), Kendall's τ between the two, and its ends."""
    ahead_BB = (reward_B[:, None] - reward_B).sign() * worse_BB
    agreed_G, asked_G = (
        reward_B.new_zeros(len(batch.names)).index_add(0, batch.group_B, value.sum(1).to(reward_B.dtype))
        for value in (ahead_BB, worse_BB)
    )
    best, worst = ~worse_BB.any(0), ~worse_BB.any(1)
    logp_B, length_B = batch.sum(logp_S), batch.length_B.to(reward_B.dtype)
    values = {
        "accuracy": (agreed_G == asked_G).to(reward_B.dtype),
        "kendall_tau": agreed_G / asked_G,
        "margin": reward_B[best] - reward_B[worst],
        "best_reward": reward_B[best],
        "worst_reward": reward_B[worst],
        "best_logp": logp_B[best],
        "worst_logp": logp_B[worst],
        "best_length": length_B[best],
        "worst_length": length_B[worst],
    }
    return {name: Term(value, "group") for name, value in values.items()}
