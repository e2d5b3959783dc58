"""Proximal policy optimization (PPO) of language models: the KL is in the reward, and every token is an action.

Schulman, Wolski, Dhariwal, Radford and Klimov 2017, "Proximal Policy Optimization Algorithms", arXiv:1707.06347,
equation 7, as in InstructGPT (arXiv:2203.02155). Without a value model every token has its completion's advantage. With
one, each token has its own, by GAE (`advantages.py`). The entropy bonus is c₂·S[π] of equation 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Baseline, Loss, Objective, Scale, Term, statistic, trait, values
from twofold.objectives.importance import token_weighted
from twofold.objectives.surrogate import (
    Average,
    averaged,
    clipped,
    moves,
    rollout_metrics,
    stopped,
    token_advantages,
)
from twofold.settings import require, settings


def value_loss(value_S: Tensor, old_S: Tensor, return_S: Tensor, clip: float) -> Tensor:
    """½·max((v − R)², (clip(v, v_old ± ε) − R)²) of each token. A value beyond the clip has no gradient."""
    near_S = old_S + (value_S - old_S).clamp(-clip, clip)
    return 0.5 * torch.maximum((value_S - return_S).square(), (near_S - return_S).square())


@settings
class PPO(Objective):
    """−min(ρ·A, clip(ρ, 1 ± ε)·A) of each token, ρ = π/π_old. A is the column `advantage` and has no gradient."""

    kind: Literal["ppo"] = "ppo"
    clip: float = 0.2
    """ε: clip range of a token's probability ratio."""
    average: Average = "token"
    """token: mean over all tokens. completion: mean over each completion, then over completions. constant: divide by
    `length`."""
    length: int | None = None
    """For constant: the divisor of a completion's sum, such as sampling.max_new_tokens."""
    baseline: Baseline | None = None
    """What is subtracted from a reward: the mean of the prompt's other completions, of the prompt, of the rollout, or
    nothing. The default is the mean of the others, or the value model's estimate if there is one."""
    scale: Scale = "rollout"
    """Divisor of the advantage: the standard deviation over the rollout (whitening) or over the prompt, or nothing."""
    entropy: float = 0.0
    """Weight of the entropy bonus: the mean entropy of the policy per token, in nats, is added to the objective. With 0
    there is none."""

    requires = ("old_logp", "advantage")
    token_advantages = True
    data_kind = "prompts"

    @trait
    def comparison(self) -> tuple[Baseline | None, Scale]:
        return self.baseline, self.scale

    @trait
    def statistics(self) -> tuple[str, ...]:
        return ("entropy",) if self.entropy else ()

    def __post_init__(self) -> None:
        require(0 < self.clip < 1, "clip must be in (0, 1)")
        require((self.average == "constant") == (self.length is not None), "length goes with average constant")
        require(self.entropy >= 0, "entropy must be ≥ 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        move_S = moves(outputs, batch)
        ratio_S = move_S.exp()
        advantage_S = token_advantages(batch, ratio_S.dtype)
        loss_S = token_weighted(-clipped(advantage_S, ratio_S, self.clip), batch)
        clip = Term(stopped(advantage_S, ratio_S, self.clip), "token")
        seen = {"ratio": Term(ratio_S.detach(), "token"), "clipped": clip, **rollout_metrics(outputs, batch)}
        terms = {"ppo": averaged(loss_S, batch, self.average, self.length)}
        if self.entropy:
            entropy_S = statistic(outputs, "entropy")
            lost_S = token_weighted(-entropy_S, batch)
            terms["entropy_bonus"] = averaged(lost_S, batch, self.average, self.length, self.entropy)
            seen["entropy"] = Term(entropy_S.detach(), "token")
        return Loss(terms, seen)


@dataclass(frozen=True)
class ValueRegression(Objective):
    """The loss of a value model: regression on the column `return`, clipped at distance `clip` from `old_value`, the
    value at rollout time. None does not clip."""

    clip: float | None = 0.2

    requires = ("old_value", "return")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        value_S = values(outputs)
        old_S, return_S = (batch.token_columns[name].to(value_S.dtype) for name in self.requires)
        if self.clip is None:
            return Loss({"value": Term(0.5 * (value_S - return_S).square(), "token")})
        loss_S = value_loss(value_S, old_S, return_S, self.clip)
        still = 0.5 * (value_S - return_S).square() < loss_S
        return Loss({"value": Term(loss_S, "token")}, {"value_clipped": Term(still.to(value_S.dtype), "token")})
