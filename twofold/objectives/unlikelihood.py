"""Unlikelihood training: raise the likelihood of chosen, lower that of rejected.

Welleck, Kulikov, Roller, Dinan, Cho and Weston 2019, "Neural Text Generation with Unlikelihood Training",
arXiv:1908.04319 (token). The baseline of that name in the DPO paper, arXiv:2305.18290, section 6 (sequence).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_scores import log1mexp
from twofold.objectives.pairs import Pairs, sums
from twofold.settings import require, settings


def unlikelihood(logp_S: Tensor, floor: float) -> Tensor:
    """−log max(1 − π, floor) per token."""
    certain_S = logp_S >= math.log1p(-floor)
    value_S = -log1mexp(torch.where(certain_S, torch.full_like(logp_S, -1.0), logp_S))
    return torch.where(certain_S, torch.full_like(logp_S, -math.log(floor)), value_S)


@settings
class Unlikelihood(Objective):
    """−log π(chosen) + α·(log π(rejected), or −Σ log(1 − π(token)) over its tokens). No reference."""

    kind: Literal["unlikelihood"] = "unlikelihood"
    alpha: float = 0.1
    """Weight of the term that makes rejected unlikely."""
    form: Literal["sequence", "token"] = "sequence"
    """sequence is unbounded below. token levels off as each token becomes unlikely."""
    floor: float = 1e-5
    """For token only: lower bound of 1 − π, which keeps the loss finite. Below the bound there is no gradient."""

    def __post_init__(self) -> None:
        require(self.alpha > 0, "alpha must be > 0")
        require(0 < self.floor < 1, "floor must be in (0, 1)")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=False)
        if self.form == "sequence":
            unlikely_P = pairs.logp.rejected
        else:
            unlikely_P = sums(unlikelihood(pairs.logp_S, self.floor), batch).rejected
        terms = {"likelihood": Term(-pairs.logp.chosen, "pair"), "unlikelihood": Term(unlikely_P, "pair", self.alpha)}
        return Loss(terms, pairs.metrics(pairs.logp))
