"""Yang, Jiang, Zhang, Zhao and Li 2025, "DPO-Shift: Shifting the Distribution of Direct Preference Optimization",
arXiv:2502.07599: the rejected reward is scaled down, so that chosen need not fall.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class DPOShift(Objective):
    """−log σ(β·log-ratio of chosen − f·β·log-ratio of rejected)."""

    kind: Literal["dpo_shift"] = "dpo_shift"
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    f: float = 0.9
    """The paper's f(λ): 1 is DPO; the lower, the more chosen rises and the smaller the margin."""

    requires = ("ref_logp",)
    remedy = "a smaller objective.f"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(0 < self.f <= 1, "f must be in (0, 1]")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        margin_P = reward.chosen - self.f * reward.rejected
        return Loss({"dpo_shift": Term(logistic(margin_P), "pair")}, pairs.metrics(reward))
