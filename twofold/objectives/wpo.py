"""WPO: DPO with each pair weighted by the current policy's probability of both completions.

Zhou, Agrawal, Zhang, Indurthi, Zhao, Song, Xu and Zhu 2024, "WPO: Enhancing RLHF with Weighted Preference
Optimization", arXiv:2406.11827, equation 2.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference, statistic, trait
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import mean
from twofold.objectives.pairs import Pairs, sums
from twofold.settings import settings


@settings
class WPO(WithReference):
    """w(chosen)·w(rejected)·DPO, w = exp(mean over tokens of log π(token) − log Σ π²). w has no gradient."""

    kind: Literal["wpo"] = "wpo"
    alignment: Literal["sampled", "greedy", "none"] = "sampled"
    """Divisor of a token's probability. sampled: the expected probability of a sampled token, Σ π². greedy: the largest
    probability."""

    @trait
    def statistics(self) -> tuple[str, ...]:
        return {"sampled": ("log_collision",), "greedy": ("log_greedy",), "none": ()}[self.alignment]

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        likely_S = pairs.logp_S.detach()
        for name in self.statistics:
            likely_S = likely_S - statistic(outputs, name)
        weight = mean(sums(likely_S, batch), pairs).map(torch.exp)
        reward = self.beta * pairs.logratio
        weight_P = weight.chosen * weight.rejected
        metrics = pairs.metrics(reward) | {"pair_weight": Term(weight_P, "pair")}
        return Loss({"wpo": Term(weight_P * logistic(reward.margin), "pair")}, metrics)
