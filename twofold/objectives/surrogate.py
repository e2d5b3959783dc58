"""Parts of policy-gradient losses: constant advantages, the ratio to the sampling policy, and its clip.

Schulman, Wolski, Dhariwal, Radford and Klimov 2017, "Proximal Policy Optimization Algorithms", arXiv:1707.06347,
equation 7. At ratio 1 the gradient is that of −A·log π, REINFORCE's.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Term, logps
from twofold.objectives.kl import k2

Average = Literal["completion", "token", "constant"]
"""Mean over a completion's tokens and then over completions; mean over all tokens; or sum over a completion's tokens
divided by a constant, then mean over completions."""


def clipped(advantage: Tensor, ratio: Tensor, epsilon: float, high: float | None = None) -> Tensor:
    """The clipped surrogate of ratio and advantage, with clip range 1 − ε to 1 + ε (or 1 + `high`)."""
    bounded = ratio.clamp(1 - epsilon, 1 + (epsilon if high is None else high))
    return torch.minimum(advantage * ratio, advantage * bounded)


@torch.no_grad()
def stopped(advantage: Tensor, ratio: Tensor, epsilon: float, high: float | None = None) -> Tensor:
    """1 where the ratio is clipped in the advantage's direction, so that there is no gradient."""
    return (clipped(advantage, ratio, epsilon, high) < advantage * ratio).to(ratio.dtype)


def advantages(batch: Batch, dtype: torch.dtype) -> Tensor:
    """The column `advantage` [B] of each completion."""
    return batch.branch_columns["advantage"].to(dtype)


def token_advantages(batch: Batch, dtype: torch.dtype) -> Tensor:
    """The column `advantage` [S] of each token: its own, from a value model, or its completion's."""
    if "advantage" in batch.token_columns:
        return batch.token_columns["advantage"].to(dtype)
    return advantages(batch, dtype)[batch.branch_S]


def moves(outputs: Outputs, batch: Batch) -> Tensor:
    """log π − log π_old [S]: the change of each token's log-probability since it was sampled."""
    logp_S = logps(outputs)
    return logp_S - batch.token_columns["old_logp"].to(logp_S.dtype)


def averaged(value_S: Tensor, batch: Batch, average: Average, length: int | None = None, weight: float = 1.0) -> Term:
    """`value_S` as a term. `length` is the constant."""
    if average == "token":
        return Term(value_S, "token", weight)
    total_B = batch.sum(value_S)
    return Term(total_B / (batch.length_B if average == "completion" else length or 1), "branch", weight)


@torch.no_grad()
def rollout_metrics(outputs: Outputs, batch: Batch) -> dict[str, Term]:
    """Metrics of samples: log π, length and advantage. If the columns exist, also the change since sampling
    (`approx_kl`, mean d²/2 per token) and Σ log π/π_ref (`draft_kl`)."""
    logp_S = logps(outputs)
    found = {
        "draft_logp": Term(batch.sum(logp_S), "branch"),
        "draft_length": Term(batch.length_B.to(logp_S.dtype), "branch"),
        "advantage": _advantage(batch, logp_S.dtype),
    }
    if "old_logp" in batch.token_columns:
        found["approx_kl"] = Term(k2(moves(outputs, batch)), "token")
    if "ref_logp" in batch.token_columns:
        found["draft_kl"] = Term(batch.sum(logp_S - batch.token_columns["ref_logp"].to(logp_S.dtype)), "branch")
    return found


def _advantage(batch: Batch, dtype: torch.dtype) -> Term:
    if "advantage" in batch.token_columns:
        return Term(batch.token_columns["advantage"].to(dtype), "token", spread=True)
    return Term(advantages(batch, dtype), "branch", spread=True)
