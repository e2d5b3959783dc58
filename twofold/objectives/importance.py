"""Truncated importance weights min(π/π_sampler, cap) of completions that older weights or another inference engine
sampled.

π is the policy at the time the completions arrive. The ratio π_θ/π_old over several updates remains part of the
objective. Weights are constant columns of a completion. Objectives with tokens as actions (GRPO, PPO) use one per
token. Those with a completion as one action (RLOO, REINFORCE, PDPO's generator, pairs) use one per completion.

Ionides 2008, "Truncated Importance Sampling" (no arXiv id); Yao, Liu, Zhang, Dong, Shang and Gao 2025, "Your Efficient
RL Framework Secretly Brings You Off-Policy RL Training", fengyao.notion.site/off-policy-rl: weights of tokens, cap 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from twofold.batch import Batch, Group, Outputs, Role
from twofold.objectives.base import Loss, Objective, Term, as_objective
from twofold.objectives.pairs import sides

SAMPLER_LOGP = "sampler_logp"
"""The column [n] of log-probabilities that the sampler itself reported."""
OF_TOKEN = "token_importance"
OF_DRAFT = "importance"
_LARGEST = 700.0  # nats whose exponential is finite


def importance_columns(logp_S: Tensor, sampler_S: Tensor, cap: float) -> dict[str, Tensor | float]:
    """Weights of one completion from the log-probabilities [n] of the policy and of its sampler: one per token, and one
    for the completion from the product of its tokens' ratios."""
    ratio_S = (logp_S - sampler_S).double()
    most = math.log(cap)
    whole = math.exp(min(ratio_S.sum().item(), most))
    return {SAMPLER_LOGP: sampler_S.double(), OF_TOKEN: ratio_S.clamp(max=most).exp(), OF_DRAFT: whole}


def importance_figures(logp: Sequence[Tensor], sampler: Sequence[Tensor], cap: float) -> dict[str, float]:
    """Metrics: the mean ratio π/π_sampler before truncation and the truncated share, per token and per completion."""
    logratios = [(a - b).double() for a, b in zip(logp, sampler, strict=True)]
    token_S, whole_B = torch.cat(logratios), torch.stack([each.sum() for each in logratios])
    figures: dict[str, float] = {}
    for name, ratio in (("token", token_S), ("draft", whole_B)):
        figures[f"{name}_ratio"] = ratio.clamp(max=_LARGEST).exp().mean().item()
        figures[f"{name}_capped"] = (ratio > math.log(cap)).double().mean().item()
    return figures


def token_weighted(value_S: Tensor, batch: Batch) -> Tensor:
    """A value [S] of each token times its importance weight, if there are weights."""
    weight_S = batch.token_columns.get(OF_TOKEN)
    return value_S if weight_S is None else value_S * weight_S.to(value_S.dtype)


def draft_weighted(value_B: Tensor, batch: Batch) -> Tensor:
    """A value [B] of each completion times its importance weight, if there are weights."""
    weight_B = batch.branch_columns.get(OF_DRAFT)
    return value_B if weight_B is None else value_B * weight_B.to(value_B.dtype)


@dataclass(frozen=True)
class WeightedPairs(Objective):
    """`base`, an objective on pairs of samples, with each pair weighted by the product of its two samples' weights."""

    base: Objective

    def __post_init__(self) -> None:
        """Its traits are those of `base`, except that its gradient is not that of the margin only."""
        base = as_objective(self.base)
        vars(self).update({name: getattr(base, name) for name in ("requires", "statistics", "remedy")})

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        loss = self.base(outputs, batch)
        weight = sides(batch.branch_columns[OF_DRAFT], batch)
        weight_G = weight.chosen * weight.rejected
        terms = {name: replace(term, value=_times(term, weight_G, batch)) for name, term in loss.terms.items()}
        return Loss(terms, loss.metrics)


def weighted_pairs(objective: Objective, pairs: Sequence[Group]) -> Objective:
    """`objective` with importance weights, if `pairs` have them and it treats pairs independently. An objective that
    couples a batch has no loss per pair."""
    brought = bool(pairs) and all(group.has(OF_DRAFT) for group in pairs)
    return WeightedPairs(objective) if brought and not as_objective(objective).couples else objective


def _times(term: Term, weight_G: Tensor, batch: Batch) -> Tensor:
    """The value of a term, with each entry multiplied by the weight of its pair."""
    base, _, role = term.unit.partition(":")
    chosen_B = batch.role_B == int(Role[role.upper()]) if role else torch.ones_like(batch.role_B, dtype=torch.bool)
    group_of = {"branch": batch.group_B[chosen_B], "token": batch.group_B[batch.branch_S[chosen_B[batch.branch_S]]]}
    weight = weight_G[group_of[base]] if base in group_of else weight_G
    return term.value * weight.to(term.value.dtype)
