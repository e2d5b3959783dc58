"""Regularized preference optimization (RPO): DPO plus the likelihood of chosen.

Liu, Lu, Zhang, Liu, Guo, Yang, Blanchet and Wang 2024, "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is
Implicitly an Adversarial Regularizer", arXiv:2405.16436. With weight 1 on a mean per token it is Iterative RPO.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.aux_terms import nll
from twofold.objectives.base import Loss, Term, WithReference
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class RPO(WithReference):
    """DPO + η·(−log π(chosen))."""

    kind: Literal["rpo"] = "rpo"
    beta: float = 0.01
    eta: float = 0.005
    """Weight of −log π(chosen)."""
    likelihood: Literal["sum", "mean"] = "sum"
    """sum: over a completion, as in the theory. mean: per token. The authors used both."""

    margin_weighted = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.eta >= 0, "eta must be ≥ 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        likelihood = nll(pairs, self.eta, per_token=self.likelihood == "mean")
        return Loss({"rpo": Term(logistic(reward.margin), "pair"), **likelihood}, pairs.metrics(reward))
