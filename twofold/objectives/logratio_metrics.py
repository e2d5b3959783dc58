"""Metrics of the distance between policy and reference model on given completions, for every objective."""

from __future__ import annotations

import torch
from torch import Tensor

from twofold.batch import Batch
from twofold.objectives.kl import k2


@torch.no_grad()
def moved(logp_S: Tensor, batch: Batch) -> dict[str, Tensor]:
    """From log π [S]: each completion's [B] sum, its length in tokens and, if the batch has a reference, its log-ratio
    and the sum of d²/2 over its tokens, in nats. These are k1 and k2 of `kl.py`, but on data that was not sampled from
    the policy. k3 is left out: its e^−d overflows on completions that have become very unlikely."""
    told = {"logp": batch.sum(logp_S), "length": batch.length_B.to(logp_S.dtype)}
    if "ref_logp" in batch.token_columns:
        logratio_S = logp_S - batch.token_columns["ref_logp"].to(logp_S.dtype)
        told |= {"logratio": batch.sum(logratio_S), "k2": batch.sum(k2(logratio_S))}
    return told
