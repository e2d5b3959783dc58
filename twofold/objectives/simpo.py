"""SimPO: a margin loss on mean log-probabilities, without a reference model.

Meng, Xia and Chen 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", arXiv:2405.14734,
equation 6.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import mean
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class SimPO(Objective):
    """−log σ(β·[mean log π of chosen − mean log π of rejected] − γ), means over tokens. No reference."""

    kind: Literal["simpo"] = "simpo"
    beta: float = 2.0
    """Scale of the reward, which is a mean per token."""
    gamma: float = 1.0
    """Target margin of the reward. The authors' models use γ/β from 0.1 to 0.8."""

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.gamma >= 0, "gamma must be ≥ 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        reward = self.beta * mean(pairs.logp, pairs)
        return Loss({"simpo": Term(logistic(reward.margin - self.gamma), "pair")}, pairs.metrics(reward))
