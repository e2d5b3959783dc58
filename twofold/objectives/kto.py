"""Ethayarajh, Xu, Muennighoff, Jurafsky and Kiela 2024, "KTO: Model Alignment as Prospect Theoretic Optimization",
arXiv:2402.01306, equation 8: completions that are good or bad in themselves, valued as gains and losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Loss, Term, logps, logratios
from twofold.objectives.moved import moved
from twofold.settings import require, settings


@settings
class KTO:
    """λ_D·(1 − σ(β·(log-ratio − z₀))) of a desirable completion, λ_U·(1 − σ(β·(z₀ − log-ratio))) of an undesirable one.
    The point of reference z₀ estimates KL(π ‖ π_ref) over the whole step and is held fixed."""

    kind: Literal["kto"] = "kto"
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    desirable_weight: float = 1.0
    """λ_D; the paper wants λ_D·n_D / (λ_U·n_U) in [1, 3/2], n counting the rows of each label."""
    undesirable_weight: float = 1.0
    """λ_U."""

    requires = ("ref_logp", "z0")
    learns_from = "labels"

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.desirable_weight > 0, "desirable_weight must be > 0")
        require(self.undesirable_weight > 0, "undesirable_weight must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """A branch that is neither desirable nor undesirable raises ValueError."""
        desirable_B = labels(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        lead_B = reward_B - self.beta * batch.branch_columns["z0"].to(reward_B.dtype)
        gain_B = torch.where(desirable_B, lead_B, -lead_B)
        miss_B = torch.sigmoid(-gain_B)
        loss_B = torch.where(desirable_B, self.desirable_weight * miss_B, self.undesirable_weight * miss_B)
        metrics = _metrics({"reward": reward_B.detach(), **moved(logps(outputs), batch)}, gain_B.detach(), batch)
        metrics["gradient_weight"] = Term((loss_B * torch.sigmoid(gain_B)).detach(), "branch", spread=True)
        return Loss({"kto": Term(loss_B, "branch")}, metrics)


def labels(batch: Batch) -> Tensor:
    """Whether each branch is desirable [B]."""
    desirable_B = batch.role_B == int(Role.DESIRABLE)
    if not (desirable_B | (batch.role_B == int(Role.UNDESIRABLE))).all():
        raise ValueError("every branch needs a label: desirable or undesirable")
    return desirable_B


def _metrics(told: Mapping[str, Tensor], gain_B: Tensor, batch: Batch) -> dict[str, Term]:
    """What is right is a desirable completion strictly above z₀ or an undesirable one strictly below it; and what is
    `told` [B] of each label."""
    metrics = {
        "accuracy": Term((gain_B > 0).to(gain_B.dtype), "branch"),
        "z0": Term(batch.branch_columns["z0"], "branch"),
    }
    for role in (Role.DESIRABLE, Role.UNDESIRABLE):
        side, name = batch.of_role(role), role.name.lower()
        metrics |= {f"{name}_{of}": Term(value_B[side], f"branch:{name}") for of, value_B in told.items()}
    return metrics
