"""Entropy-adaptive fine-tuning (EAFT): SFT that learns little from tokens where the model is certain of another one.

Diao, Yang, Gong, Zhang, Yan, Han, Liang, Xu and Ma 2026, "Entropy-Adaptive Fine-Tuning: Resolving Confident Conflicts
to Mitigate Forgetting", arXiv:2601.02151.
"""

from __future__ import annotations

import math
from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, logps, statistic
from twofold.objectives.demonstrations import demonstrated
from twofold.settings import require, settings

TOP = 20
"""Tokens whose entropy is taken instead of that of the whole vocabulary."""


@settings
class EAFT(Objective):
    """−H̃·log π(token), averaged over tokens. H̃ = (H/ln 20)^power is the entropy of the 20 most likely tokens, from 0
    for one certain token to 1 for 20 equal ones. It has no gradient."""

    kind: Literal["eaft"] = "eaft"
    power: float = 1.0
    """Exponent of the normalized entropy. 1 is the paper's. 0 is SFT."""

    data_kind = "demonstrations"
    statistics = ("top_entropy",)

    def __post_init__(self) -> None:
        require(0 <= self.power < math.inf, "power must be ≥ 0 and finite")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logp_S = logps(outputs)
        weight_S = (statistic(outputs, "top_entropy") / math.log(TOP)) ** self.power
        metrics = demonstrated(logp_S, batch) | {"token_weight": Term(weight_S, "token")}
        return Loss({"eaft": Term(-weight_S * logp_S, "token")}, metrics)
