"""Labels and metrics shared by the objectives on labeled completions."""

from __future__ import annotations

from torch import Tensor

from twofold.batch import Batch, Role
from twofold.objectives.base import Term
from twofold.objectives.logratio_metrics import moved


def labels(batch: Batch) -> Tensor:
    """Whether each branch is desirable [B]. Raises ValueError for a branch that is neither desirable nor
    undesirable."""
    desirable_B = batch.role_B == int(Role.DESIRABLE)
    if not (desirable_B | (batch.role_B == int(Role.UNDESIRABLE))).all():
        raise ValueError("every branch needs a label: desirable or undesirable")
    return desirable_B


def metrics(reward_B: Tensor, logp_S: Tensor, gain_B: Tensor, weight_B: Tensor, batch: Batch) -> dict[str, Term]:
    """Metrics per label and over both labels. accuracy counts a completion as correct if it is strictly on its own side
    of the reference point (`gain_B` > 0). `weight_B` is its gradient weight."""
    weight_B = weight_B.detach()
    found = {
        "accuracy": Term((gain_B.detach() > 0).to(weight_B.dtype), "branch"),
        "gradient_weight": Term(weight_B, "branch", spread=True),
    }
    told = {"reward": reward_B.detach(), **moved(logp_S, batch)}
    for role in (Role.DESIRABLE, Role.UNDESIRABLE):
        side, name = batch.of_role(role), role.name.lower()
        found |= {f"{name}_{of}": Term(value_B[side], f"branch:{name}") for of, value_B in told.items()}
    return found
