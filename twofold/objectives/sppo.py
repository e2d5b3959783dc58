"""Self-play preference optimization (SPPO): each log-ratio has the target η·(P − ½), P the probability that its
completion wins.

Wu, Sun, Yuan, Ji, Yang and Gu 2024, "Self-Play Preference Optimization for Language Model Alignment", arXiv:2405.00675,
equation 4.7.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, trait
from twofold.objectives.pair_losses import square
from twofold.objectives.pairs import Pairs, Sides, sides
from twofold.settings import require, settings


def to_win_rate(logratio_P: Tensor, probability: Tensor | float, eta: float) -> Tensor:
    """(log-ratio − η·(P − ½))²."""
    return square(logratio_P, eta * (probability - 0.5))


@settings
class SPPO(Objective):
    """(log-ratio of chosen − η·(P − ½))² + (log-ratio of rejected + η·(P − ½))²."""

    kind: Literal["sppo"] = "sppo"
    eta: float = 1000.0
    """Scale of the targets, the inverse of a β."""
    probability: float | Literal["data"] = 1.0
    """P, the probability that chosen beats rejected. 1 trusts every label. data reads a probability from each pair."""

    def __post_init__(self) -> None:
        require(self.eta > 0, "eta must be > 0")
        if self.probability != "data":
            require(0.5 <= self.probability <= 1, "probability must be in [0.5, 1]")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("ref_logp", "win_rate") if self.probability == "data" else ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        rate = self._win_rate(pairs)
        chosen_P = to_win_rate(pairs.logratio.chosen, rate.chosen, self.eta)
        rejected_P = to_win_rate(pairs.logratio.rejected, rate.rejected, self.eta)
        return Loss({"sppo": Term(chosen_P + rejected_P, "pair")}, pairs.metrics(1 / self.eta * pairs.logratio))

    def _win_rate(self, pairs: Pairs) -> Sides:
        """P of each completion. The two of a pair sum to 1."""
        if self.probability == "data":
            return sides(pairs.batch.branch_columns["win_rate"].to(pairs.logp_S.dtype), pairs.batch)
        one_P = torch.ones_like(pairs.logratio.chosen)
        return Sides(self.probability * one_P, (1 - self.probability) * one_P)
