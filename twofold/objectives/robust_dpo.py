"""Chowdhury, Kini and Natarajan 2024, "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
arXiv:2403.00409: a loss whose mean over randomly flipped labels is DPO's on the true ones.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import unbiased
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class RobustDPO(Objective):
    """[(1 − ε)·(−log σ(margin)) − ε·(−log σ(−margin))] / (1 − 2ε). Unbounded below as the margin grows."""

    kind: Literal["robust_dpo"] = "robust_dpo"
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    epsilon: float = 0.1
    """Probability that a label was flipped."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(0 <= self.epsilon < 0.5, "epsilon must be in [0, 0.5)")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        return Loss({"robust_dpo": Term(unbiased(reward.margin, self.epsilon), "pair")}, pairs.metrics(reward))
