"""Pal, Karkhanis, Dooley, Roberts, Naidu and White 2024, "Smaug: Fixing Failure Modes of Preference Optimisation with
DPO-Positive", arXiv:2402.13228: a penalty inside the sigmoid wherever chosen is below its reference.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import hinge, logistic
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class DPOP(Objective):
    """−log σ(β·[log-ratio of chosen − log-ratio of rejected − λ·max(0, −log-ratio of chosen)])."""

    kind: Literal["dpop"] = "dpop"
    beta: float = 0.3
    """Strength of the pull towards the reference."""
    lam: float = 50.0
    """λ: 0 is DPO."""

    requires = ("ref_logp",)
    remedy = "a larger objective.lam, or a lower learning rate"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.lam >= 0, "lam must be ≥ 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        fallen_P = hinge(reward.chosen, 0.0)
        return Loss({"dpop": Term(logistic(reward.margin - self.lam * fallen_P), "pair")}, pairs.metrics(reward))
