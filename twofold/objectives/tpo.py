"""Triple preference optimization (TPO): a preference loss without a reference model, plus the likelihood of a third,
gold completion.

Saeidi, Verma, RRV, Rasul and Baral 2024, "Triple Preference Optimization: Achieving Better Alignment using a Single
Step Optimization", arXiv:2405.16681.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Loss, Objective, Term, trait
from twofold.objectives.logratio_metrics import moved
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import mean
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class TPO(Objective):
    """−log σ(β·[log π(chosen) − log π(rejected)] − γ) + nll·(−mean log π of gold). No reference."""

    kind: Literal["tpo"] = "tpo"
    beta: float = 0.01
    """Scale of the margin."""
    nll: float = 1.0
    """α of the paper: weight of −log π(gold) per token."""
    logp: Literal["sum", "mean"] = "sum"
    """sum: over a completion (TPO). mean: over its tokens (TPO-L); β then has another scale."""
    gamma: float | Literal["data"] = 0.0
    """Target margin of the reward. TPO-L uses a value above 0. data reads it from each row's `margin`."""

    data_kind = "triples"
    margin_setting = "gamma"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.nll > 0, "nll must be > 0: without gold it is cpo or simpo")
        require(self.gamma == "data" or self.gamma >= 0, "gamma must be ≥ 0, or data")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("margin",) if self.gamma == "data" else ()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Raises ValueError for a group without a gold branch."""
        pairs = Pairs.of(outputs, batch, reference=False)
        gold = batch.of_role(Role.DEMONSTRATION)
        if not torch.equal(batch.group_B[gold], batch.group_B[batch.of_role(Role.CHOSEN)]):
            raise ValueError("every group needs one gold branch")
        reward = self.beta * (pairs.logp if self.logp == "sum" else mean(pairs.logp, pairs))
        gold_P = batch.sum(pairs.logp_S)[gold] / batch.length_B[gold]
        told = {f"gold_{name}": Term(value_B[gold], "pair") for name, value_B in moved(pairs.logp_S, batch).items()}
        lead_P = reward.margin - pairs.wanted(self.gamma)
        terms = {"tpo": Term(logistic(lead_P), "pair"), "nll": Term(-gold_P, "pair", self.nll)}
        return Loss(terms, {**pairs.metrics(reward), **told})
