"""SimPO: a margin loss on mean log-probabilities, without a reference model.

Meng, Xia and Chen 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", arXiv:2405.14734,
equation 6.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, trait
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
    gamma: float | Literal["data"] = 1.0
    """Target margin of the reward. The authors' models use γ/β from 0.1 to 0.8. data reads it from each row's
    `margin`."""

    margin_setting = "gamma"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.gamma == "data" or self.gamma >= 0, "gamma must be ≥ 0, or data")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("margin",) if self.gamma == "data" else ()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        reward = self.beta * mean(pairs.logp, pairs)
        lead_P = reward.margin - pairs.wanted(self.gamma)
        return Loss({"simpo": Term(logistic(lead_P), "pair")}, pairs.metrics(reward))
