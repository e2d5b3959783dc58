"""Zhou, Agrawal, Zhang, Indurthi, Zhao, Song, Xu and Zhu 2024, "WPO: Enhancing RLHF with Weighted Preference
Optimization", arXiv:2406.11827, equation 2: DPO, each pair weighted by how likely the policy now says both completions.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term
from twofold.objectives.links import logistic
from twofold.objectives.pairs import Pairs, sums
from twofold.objectives.scores import mean
from twofold.settings import require, settings


@settings
class WPO:
    """w(chosen)·w(rejected)·DPO, w = exp(mean over tokens of log π(token) − log Σ π²), held fixed."""

    kind: Literal["wpo"] = "wpo"
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    alignment: Literal["none", "sampled"] = "none"
    """sampled divides by the probability expected of a sample, Σ π² (the token column `log_collision`)."""

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")

    @property
    def requires(self) -> tuple[str, ...]:
        return ("ref_logp",) if self.alignment == "none" else ("ref_logp", "log_collision")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        likely_S = pairs.logp_S.detach()
        if self.alignment == "sampled":
            likely_S = likely_S - batch.token_columns["log_collision"].to(likely_S.dtype)
        weight = mean(sums(likely_S, batch), pairs).map(torch.exp)
        reward = self.beta * pairs.logratio
        weight_P = weight.chosen * weight.rejected
        metrics = pairs.metrics(reward) | {"pair_weight": Term(weight_P, "pair")}
        return Loss({"wpo": Term(weight_P * logistic(reward.margin), "pair")}, metrics)
