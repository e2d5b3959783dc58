"""Ranks, soft labels from scores, and metrics shared by the objectives on rankings."""

from __future__ import annotations

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Loss, Term, WithReference, logps, logratios, trait
from twofold.objectives.logratio_metrics import moved
from twofold.objectives.pair_losses import logistic
from twofold.settings import require, settings


def below(batch: Batch) -> Tensor:
    """Whether completion j ranks below completion i in one ranking [B, B] (i, j). Branches are in the order of their
    ranks. Raises ValueError for a group with a single branch or with another role."""
    rank_B = torch.arange(batch.num_branches, device=batch.group_B.device)
    worse_BB = (batch.group_B[:, None] == batch.group_B) & (rank_B[:, None] < rank_B)
    sizes_G = torch.bincount(batch.group_B[batch.of_role(Role.RANKED)], minlength=len(batch.names))
    if int(sizes_G.min()) < 2 or int(sizes_G.sum()) < batch.num_branches:
        raise ValueError("every group needs two or more ranked branches, and no others")
    return worse_BB


def contests(value_B: Tensor, worse_BB: Tensor, batch: Batch) -> Tensor:
    """−Σₖ log(e^{vₖ} / Σ_{j: k or below it} e^{vⱼ}) of each ranking [G], after Plackett and Luce."""
    contest = worse_BB.any(1).nonzero().squeeze(1)
    rivals_BB = value_B.expand(len(value_B), -1).masked_fill(~worse_BB, -torch.inf)
    loss_C = logistic(value_B[contest] - rivals_BB[contest].logsumexp(1))
    return value_B.new_zeros(len(batch.names)).index_add(0, batch.group_B[contest], loss_C)


def log_share(value_B: Tensor, batch: Batch) -> Tensor:
    """log softmax [B] of a value over the completions of each group."""
    same_BB = batch.group_B[:, None] == batch.group_B
    return value_B - value_B.expand(len(value_B), -1).masked_fill(~same_BB, -torch.inf).logsumexp(1)


def label(worse_BB: Tensor, batch: Batch, alpha: float) -> Tensor:
    """The probability that each completion is the best of its ranking [B]: softmax of score/α. At α = 0 no score is
    read and the first has probability 1."""
    if not alpha:
        return (~worse_BB.any(0)).to(torch.float64)
    return log_share(batch.branch_columns["score"] / alpha, batch).exp()


def metrics(reward_B: Tensor, logp_S: Tensor, worse_BB: Tensor, batch: Batch) -> dict[str, Term]:
    """Metrics of each ranking: whether the rewards reproduce it (strictly), Kendall's τ, the metrics of its best and
    worst, and the gradient weight of its best: the probability that another completion ranks first (DPO's
    σ(−margin))."""
    reward_B = reward_B.detach()
    ahead_BB = (reward_B[:, None] - reward_B).sign() * worse_BB
    agreed_G, asked_G = (batch.sum_groups(value.sum(1).to(reward_B.dtype)) for value in (ahead_BB, worse_BB))
    best, worst = ~worse_BB.any(0), ~worse_BB.any(1)
    told = {"reward": reward_B, **moved(logp_S, batch)}
    values = {
        "accuracy": (agreed_G == asked_G).to(reward_B.dtype),
        "kendall_tau": agreed_G / asked_G,
        "margin": reward_B[best] - reward_B[worst],
        **{f"best_{name}": value_B[best] for name, value_B in told.items()},
        **{f"worst_{name}": value_B[worst] for name, value_B in told.items()},
    }
    rivals_G = reward_B.expand(len(reward_B), -1).masked_fill(~worse_BB, -torch.inf)[best].logsumexp(1)
    weight_G = torch.sigmoid(rivals_G - reward_B[best])
    return {name: Term(value, "group") for name, value in values.items()} | {
        "gradient_weight": Term(weight_G, "group", spread=True)
    }


@settings
class OnScoredRankings(WithReference):
    """Base of methods that fit the implicit rewards of a ranking to its scores. A subclass defines only `loss`."""

    beta: float = 0.01
    alpha: float = 1.0
    """Temperature of the scores, in their unit. 0 treats only the best-ranked completion as good and reads no
    scores."""

    data_kind = "rankings"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "alpha must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("ref_logp", "score") if self.alpha else ("ref_logp",)

    def loss(self, reward_B: Tensor, share_B: Tensor, batch: Batch) -> Tensor:
        """The loss of each ranking [G]; `share_B` is the probability that each completion is the best, from its
        scores."""
        raise NotImplementedError

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Branches are in the order of their ranks. Raises ValueError for a group with a single branch."""
        worse_BB = below(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        share_B = label(worse_BB, batch, self.alpha).to(reward_B.dtype)
        loss_G = self.loss(reward_B, share_B, batch)
        return Loss({self.kind: Term(loss_G, "group")}, metrics(reward_B, logps(outputs), worse_BB, batch))
