"""Wu, Sun, Yuan, Ji, Yang and Gu 2024, "Self-Play Preference Optimization for Language Model Alignment",
arXiv:2405.00675, equation 4.7: each log-ratio is led to η·(P − ½), P the probability that its completion wins.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term
from twofold.objectives.links import square
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


def to_win_rate(logratio_P: Tensor, probability: float, eta: float) -> Tensor:
    """(log-ratio − η·(P − ½))²."""
    return square(logratio_P, eta * (probability - 0.5))


@settings
class SPPO:
    """(log-ratio of chosen − η·(P − ½))² + (log-ratio of rejected + η·(P − ½))²."""

    kind: Literal["sppo"] = "sppo"
    eta: float = 1000.0
    """Scale of the targets, the inverse of a β."""
    probability: float = 1.0
    """P that chosen beats rejected; 1 takes every label at its word."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.eta > 0, "eta must be > 0")
        require(0.5 <= self.probability <= 1, "probability must be in [0.5, 1]")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        chosen_P = to_win_rate(pairs.logratio.chosen, self.probability, self.eta)
        rejected_P = to_win_rate(pairs.logratio.rejected, 1 - self.probability, self.eta)
        return Loss({"sppo": Term(chosen_P + rejected_P, "pair")}, pairs.metrics(1 / self.eta * pairs.logratio))
