"""Dynamic fine-tuning (DFT): SFT with each token weighted by its own probability, which cancels its gradient's 1/π.

Wu, Zhou, Ziheng, Peng, Ye, Hu, Zhu, Qi, Yang and Yang 2025, "On the Generalization of SFT: A Reinforcement Learning
Perspective with Reward Rectification", arXiv:2508.05629.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, logps
from twofold.objectives.demonstrations import demonstrated
from twofold.settings import settings


@settings
class DFT(Objective):
    """−sg[π(token)]·log π(token), averaged over tokens. The weight has no gradient."""

    kind: Literal["dft"] = "dft"

    data_kind = "demonstrations"

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logp_S = logps(outputs)
        weight_S = logp_S.detach().exp()
        metrics = demonstrated(logp_S, batch) | {"token_weight": Term(weight_S, "token")}
        return Loss({"dft": Term(-weight_S * logp_S, "token")}, metrics)
