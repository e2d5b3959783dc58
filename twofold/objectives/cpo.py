"""Contrastive preference optimization (CPO): DPO without a reference model, plus the likelihood of chosen.

Xu, Sharaf, Chen, Tan, Shen, Van Durme, Murray and Kim 2024, "Contrastive Preference Optimization: Pushing the
Boundaries of LLM Performance in Machine Translation", arXiv:2401.08417, equation 3 and its likelihood term.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.aux_terms import nll
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class CPO(Objective):
    """−log σ(β·[log π(chosen) − log π(rejected)]) + nll·(−mean log π of chosen). No reference."""

    kind: Literal["cpo"] = "cpo"
    beta: float = 0.1
    """Scale of the margin."""
    nll: float = 1.0
    """Weight of −log π(chosen) per token. Without it both log-probabilities may keep falling."""

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.nll >= 0, "nll must be ≥ 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        reward = self.beta * pairs.logp
        return Loss({"cpo": Term(logistic(reward.margin), "pair"), **nll(pairs, self.nll)}, pairs.metrics(reward))
