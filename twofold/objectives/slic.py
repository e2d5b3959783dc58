"""SLiC-HF: a hinge on log-likelihoods plus the likelihood of a target, here the chosen completion.

Zhao, Joshi, Liu, Khalman, Saleh and Liu 2023, "SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
arXiv:2305.10425.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.aux_terms import nll
from twofold.objectives.base import Loss, Objective, Term, trait
from twofold.objectives.pair_losses import hinge
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class SLiC(Objective):
    """max(0, δ − log π(chosen) + log π(rejected)) − λ·log π(chosen). No reference."""

    kind: Literal["slic"] = "slic"
    delta: float | Literal["data"] = 1.0
    """Margin in nats beyond which a pair has no gradient. data reads it from each row's `margin`."""
    lam: float = 0.5
    """λ, weight of −log π(chosen)."""
    likelihood: Literal["sum", "mean"] = "sum"
    """sum: over a completion, as in the paper. mean: per token."""

    margin_setting = "delta"

    def __post_init__(self) -> None:
        require(self.delta == "data" or self.delta > 0, "delta must be > 0, or data")
        require(self.lam >= 0, "lam must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("margin",) if self.delta == "data" else ()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        ranking = Term(hinge(pairs.logp.margin, pairs.wanted(self.delta)), "pair")
        likelihood = nll(pairs, self.lam, per_token=self.likelihood == "mean")
        return Loss({"slic": ranking, **likelihood}, pairs.metrics(pairs.logp))
