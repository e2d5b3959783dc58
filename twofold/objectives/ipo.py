"""Identity preference optimization (IPO): a squared loss with a target difference of log-ratios.

Azar, Rowland, Piot, Guo, Calandriello, Valko and Munos 2023, "A General Theoretical Paradigm to Understand Learning
from Human Preferences", arXiv:2310.12036, equation 17.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.aux_terms import nll
from twofold.objectives.base import Loss, Objective, Term, trait
from twofold.objectives.pair_losses import square
from twofold.objectives.pair_scores import mean
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class IPO(Objective):
    """(log-ratio of chosen − log-ratio of rejected − 1/(2τ))²."""

    kind: Literal["ipo"] = "ipo"
    tau: float = 0.1
    """1/(2τ) is the target difference of log-ratios. Smaller and larger differences are both penalized."""
    logratio: Literal["sum", "mean"] = "sum"
    """sum: over a completion (as in the theory). mean: over its tokens (as in the authors' experiments); τ then has
    another scale."""
    reference_free: bool = False
    """Use a uniform reference. No reference log-probabilities are computed."""
    nll: float = 0.0
    """Weight of −log π(chosen) per token."""

    def __post_init__(self) -> None:
        require(self.tau > 0, "tau must be > 0")
        require(self.nll >= 0, "nll must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return () if self.reference_free else ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=not self.reference_free)
        score = pairs.logratio if self.logratio == "sum" else mean(pairs.logratio, pairs)
        loss_P = square(score.margin, 1 / (2 * self.tau))
        return Loss({"ipo": Term(loss_P, "pair"), **nll(pairs, self.nll)}, pairs.metrics(self.tau * score))
