"""Jung, Han, Nam and On 2024, "Binary Classifier Optimization for Large Language Model Alignment", arXiv:2404.04656:
chosen and rejected as two examples of a binary classifier, on pairs and without the paper's reward shift.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class BCOPair(Objective):
    """−log σ(r of chosen) − log σ(−r of rejected), r = β·log-ratio."""

    kind: Literal["bco_pair"] = "bco_pair"
    beta: float = 0.1
    """Strength of the pull towards the reference."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        loss_P = logistic(reward.chosen) + logistic(-reward.rejected)
        return Loss({"bco_pair": Term(loss_P, "pair")}, pairs.metrics(reward))
