"""AlphaPO: SimPO with a power of the likelihood as reward instead of its logarithm.

Gupta, Tang, Song, Zhu, Hong, Saha, Gupta, Lee, Kim, Zhu, Agrawal, Pillai and Keerthi 2025, "AlphaPO: Reward Shape
Matters for LLM Alignment", arXiv:2501.03884.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Domain, Loss, Objective, Term, trait
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import mean
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class AlphaPO(Objective):
    """−log σ(r(chosen) − r(rejected) − γ), r = β·(1 − p^(−α))/α and p = exp(mean log π of a completion's tokens). No
    reference."""

    kind: Literal["alpha_po"] = "alpha_po"
    beta: float = 2.0
    """Scale of the reward."""
    gamma: float | Literal["data"] = 1.0
    """Target margin of the reward. data reads it from each row's `margin`."""
    alpha: float = 0.25
    """Shape of the reward. 0 is SimPO's logarithm. Above 0, differences between unlikely completions count more; below
    0, less."""

    margin_setting = "gamma"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.gamma == "data" or self.gamma >= 0, "gamma must be ≥ 0, or data")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("margin",) if self.gamma == "data" else ()

    @trait
    def domain(self) -> Domain:
        return Domain(token=80 / self.alpha) if self.alpha > 0 else Domain()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        reward = self.beta * mean(pairs.logp, pairs).map(lambda logp_P: shaped(logp_P, self.alpha))
        lead_P = reward.margin - pairs.wanted(self.gamma)
        return Loss({"alpha_po": Term(logistic(lead_P), "pair")}, pairs.metrics(reward))


def shaped(logp: Tensor, alpha: float) -> Tensor:
    """(1 − p^(−α))/α of a log-probability. It is log p at α = 0, and accurate near it."""
    return -torch.expm1(-alpha * logp) / alpha if alpha != 0 else logp
