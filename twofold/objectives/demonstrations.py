"""Metrics shared by the objectives on demonstrations."""

from __future__ import annotations

from torch import Tensor

from twofold.batch import Batch
from twofold.objectives.base import Term


def demonstrated(logp_S: Tensor, batch: Batch) -> dict[str, Term]:
    """log π of each completion, and its length in tokens."""
    logp_B = batch.sum(logp_S.detach())
    return {
        "demonstration_logp": Term(logp_B, "branch"),
        "demonstration_length": Term(batch.length_B.to(logp_B.dtype), "branch"),
    }
