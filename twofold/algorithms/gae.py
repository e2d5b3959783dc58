"""The value model of PPO: its settings, and advantages of tokens from its values by GAE.

Ouyang et al. 2022 (InstructGPT), arXiv:2203.02155, appendix C.4; GAE: Schulman et al. 2015, arXiv:1506.02438.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from twofold.batch import Group
from twofold.models.locate import VALUE_MODEL as VALUE_MODEL
from twofold.objectives.advantages import gae, kl_shaped_tokens, whitened
from twofold.settings import require, settings
from twofold.training.column_providers import VALUE

POLICY = "policy"


@settings
class ValueModelSettings:
    """The value model: initialization, learning rate and use in the advantages."""

    start: str = POLICY
    """policy (a copy of the policy's initial weights with a head that returns 0), or the folder of a reward model."""
    learning_rate: float | None = None
    """Learning rate; by default optimizer.learning_rate. All other optimizer settings are the policy's."""
    clip: float | None = 0.2
    """Clip range of a value around its estimate at rollout time. null disables clipping."""
    discount: float = 1.0
    """γ: discount per token."""
    gae_lambda: float = 0.95
    """λ of GAE. 1 uses the observed rewards, 0 the value model's estimate at the next token."""

    def __post_init__(self) -> None:
        require(self.start != "", "start must be policy or a folder")
        require(self.learning_rate is None or self.learning_rate > 0, "learning_rate must be > 0")
        require(self.clip is None or self.clip > 0, "clip must be > 0, or null")
        require(0 < self.discount <= 1, "discount must be in (0, 1]")
        require(0 <= self.gae_lambda <= 1, "gae_lambda must be in [0, 1]")


def with_gae(
    groups: Sequence[Group],
    scores: Sequence[Tensor],
    kls: Sequence[Sequence[Tensor]],
    coefficient: float,
    critic: ValueModelSettings,
) -> list[Group]:
    """Every branch with the token columns `advantage` and `return`, by GAE over a reward of −coefficient·KL at each
    token and the score at the last. `scores` are [n] per group, `kls` [tokens] per branch."""
    found: list[Group] = []
    for group, score_N, row in zip(groups, scores, kls, strict=True):
        columns: list[dict[str, Tensor | float]] = []
        for branch, score, kl_T in zip(group.branches, score_N.tolist(), row, strict=True):
            reward_T = kl_shaped_tokens(score, kl_T.double(), coefficient)
            value_T = branch.token_columns[VALUE].double()
            advantage_T, return_T = gae(reward_T, value_T, critic.discount, critic.gae_lambda)
            columns.append({"advantage": advantage_T, "return": return_T})
        found.append(group.with_columns(columns))
    return found


def whitened_tokens(groups: Sequence[Group]) -> list[Group]:
    """The column `advantage` of all tokens of a rollout, normalized to mean 0 and variance 1 (with Bessel's
    correction)."""
    pieces = iter(whitened(_column(groups, "advantage")).split([len(b.tokens) for g in groups for b in g.branches]))
    return [g.with_columns([{"advantage": next(pieces)} for _ in g.branches]) for g in groups]


def value_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of the value model on a rollout: its mean, the mean return, and the explained variance (1 is perfect; 0
    is no better than the mean)."""
    value_S, return_S = _column(groups, VALUE).double(), _column(groups, "return")
    figures = {"value": value_S.mean().item(), "return": return_S.mean().item()}
    variance = return_S.var(correction=0)
    if variance > 0:
        figures["explained"] = 1 - ((return_S - value_S).var(correction=0) / variance).item()
    return figures


def _column(groups: Sequence[Group], name: str) -> Tensor:
    return torch.cat([b.token_columns[name] for g in groups for b in g.branches])
