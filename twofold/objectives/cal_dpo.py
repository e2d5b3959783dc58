"""Cal-DPO: DPO with a target log-ratio for chosen and another for rejected.

Xiao, Yuan, Zhu, Li and Honavar 2024, "Cal-DPO: Calibrated Direct Preference Optimization for Language Model Alignment",
arXiv:2412.14516.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference
from twofold.objectives.pair_losses import logistic, square
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class CalDPO(WithReference):
    """−log σ(difference of log-ratios) + c·[(log-ratio of chosen − 1/(2β))² + (log-ratio of rejected + 1/(2β))²]."""

    kind: Literal["cal_dpo"] = "cal_dpo"
    beta: float = 0.001
    """Sets only the targets ±1/(2β). The sigmoid has no β."""
    coefficient: float = 0.5
    """c, the weight of the squares, as in the authors' code."""

    remedy = "a larger objective.coefficient, or a lower learning rate"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.coefficient >= 0, "coefficient must be ≥ 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        score, target = pairs.logratio, 1 / (2 * self.beta)
        calibration_P = square(score.chosen, target) + square(score.rejected, -target)
        terms = {
            "cal_dpo": Term(logistic(score.margin), "pair"),
            "calibration": Term(calibration_P, "pair", self.coefficient),
        }
        return Loss(terms, pairs.metrics(self.beta * score))
