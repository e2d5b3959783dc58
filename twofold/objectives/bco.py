"""Binary classifier optimization (BCO): a classifier of desirable and undesirable completions. Its logit is the
implicit reward minus a shift δ.

Jung, Han, Nam and On 2024, "Binary Classifier Optimization for Large Language Model Alignment", arXiv:2404.04656.
"""

from __future__ import annotations

from typing import Literal

import torch

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference, logps, logratios
from twofold.objectives.labels import labels, metrics
from twofold.objectives.pair_losses import logistic
from twofold.settings import require, settings


@settings
class BCO(WithReference):
    """−log σ(r − δ) of a desirable completion, −log σ(δ − r) of an undesirable one, r = β·log-ratio. δ is halfway
    between the mean rewards of the two labels, over this step and the earlier ones, and has no gradient."""

    kind: Literal["bco"] = "bco"
    shift_decay: float = 0.9
    """Decay per step of the running means that define δ. 0 uses only the means of the current step."""

    requires = ("ref_logp", "delta")
    data_kind = "labels"
    constant = ("shift_decay",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.shift_decay < 1, "shift_decay must be in [0, 1)")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Raises ValueError for a branch that is neither desirable nor undesirable."""
        desirable_B = labels(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        delta_B = self.beta * batch.branch_columns["delta"].to(reward_B.dtype)
        gain_B = torch.where(desirable_B, reward_B - delta_B, delta_B - reward_B)
        loss_B = logistic(gain_B)
        seen = metrics(reward_B, logps(outputs), gain_B, torch.sigmoid(-gain_B), batch)
        return Loss({"bco": Term(loss_B, "branch")}, seen | {"delta": Term(delta_B, "branch")})
