"""Scores that pair methods compare, computed from log-probabilities: pairs in, one number per side out."""

from __future__ import annotations

import torch
from torch import Tensor

from twofold.batch import Role
from twofold.objectives.pairs import Pairs, Sides, sums


def mean(value: Sides, pairs: Pairs) -> Sides:
    """Mean per token: the sum over a completion divided by its length."""
    return value / pairs.length


def tail_weighted(pairs: Pairs, alpha: float) -> Sides:
    """Log-ratios in which tokens beyond the length of the pair's shorter completion count `alpha` times."""
    batch, length_B = pairs.batch, pairs.batch.length_B
    chosen, rejected = batch.of_role(Role.CHOSEN), batch.of_role(Role.REJECTED)
    shared_B = length_B.clone()
    shared_B[chosen] = shared_B[rejected] = torch.minimum(length_B[chosen], length_B[rejected])
    first_B = torch.cumsum(length_B, 0) - length_B
    position_S = torch.arange(len(batch.branch_S), device=batch.branch_S.device) - first_B[batch.branch_S]
    tail_S = position_S >= shared_B[batch.branch_S]
    return sums(torch.where(tail_S, alpha * pairs.logratio_S, pairs.logratio_S), batch)


def log_odds(logp: Tensor) -> Tensor:
    """log p/(1 − p) of a log-probability below 0."""
    return logp - log1mexp(logp)


def log1mexp(logp: Tensor) -> Tensor:
    """log(1 − p) of a log-probability. Value and gradient are accurate for p near 0 and near 1; −inf at p = 1."""
    high = logp > -0.6931471805599453
    near_1 = torch.log(-torch.expm1(torch.where(high, logp, -torch.ones_like(logp))))
    near_0 = torch.log1p(-torch.exp(torch.where(high, -torch.ones_like(logp), logp)))
    return torch.where(high, near_1, near_0)
