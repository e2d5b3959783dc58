"""LD-DPO: DPO in which the tokens beyond the length of the pair's shorter completion count less.

Liu, Bai, Han, Weng, Xu, Cao, Wang and Cai 2024, "Length Desensitization in Direct Preference Optimization",
arXiv:2409.06411.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import tail_weighted
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class LDDPO(WithReference):
    """DPO with tokens past the length of the pair's shorter completion weighted α."""

    kind: Literal["ld_dpo"] = "ld_dpo"
    alpha: float = 0.5
    """1 is DPO. 0 compares both completions over equal lengths."""

    margin_weighted = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.alpha <= 1, "alpha must be in [0, 1]")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * tail_weighted(pairs, self.alpha)
        return Loss({"ld_dpo": Term(logistic(reward.margin), "pair")}, pairs.metrics(reward))
