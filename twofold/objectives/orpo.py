"""ORPO: the likelihood of chosen plus the odds ratio of chosen and rejected, without a reference model.

Hong, Lee and Thorne 2024, "ORPO: Monolithic Preference Optimization without Reference Model", arXiv:2403.07691,
equations 3 to 7.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.aux_terms import nll
from twofold.objectives.base import Domain, Loss, Objective, Term
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import log_odds, mean
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class ORPO(Objective):
    """−mean log π of chosen − λ·log σ(log odds of chosen − log odds of rejected), p = exp(mean log π). No reference."""

    kind: Literal["orpo"] = "orpo"
    lam: float = 0.1
    """λ, weight of the odds ratio."""

    domain = Domain(certain=False)

    def __post_init__(self) -> None:
        require(self.lam > 0, "lam must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        odds = mean(pairs.logp, pairs).map(log_odds)
        ratio = Term(logistic(odds.margin), "pair", self.lam)
        return Loss({"orpo": ratio, **nll(pairs, 1.0)}, pairs.metrics(odds))
