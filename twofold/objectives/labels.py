"""What objectives on labelled completions share: who is desirable, and the figures one watches."""

from __future__ import annotations

from torch import Tensor

from twofold.batch import Batch, Role
from twofold.objectives.base import Term
from twofold.objectives.logratio_metrics import moved


def labels(batch: Batch) -> Tensor:
    """Whether each branch is desirable [B]. A branch that is neither that nor undesirable raises ValueError."""
    desirable_B = batch.role_B == int(Role.DESIRABLE)
    if not (desirable_B | (batch.role_B == int(Role.UNDESIRABLE))).all():
        raise ValueError("every branch needs a label: desirable or undesirable")
    return desirable_B


def metrics(reward_B: Tensor, logp_S: Tensor, gain_B: Tensor, weight_B: Tensor, batch: Batch) -> dict[str, Term]:
    """What is told of each label; over both, accuracy (right is a completion strictly on its own side of the point of
    reference, with a `gain_B` above 0) and how strongly each is still pushed, `weight_B`."""
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
