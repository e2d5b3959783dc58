"""The loss of a process reward model: whether each step of a solution is right.

Lightman et al. 2023, "Let's Verify Step by Step", arXiv:2305.20050, section 2.6: the label of a step is predicted at
its last token. Soft labels: Wang et al. 2023 (Math-Shepherd), arXiv:2312.08935, section 3.3.
"""

from __future__ import annotations

from typing import Literal

from torch.nn.functional import binary_cross_entropy_with_logits

from twofold.batch import STEP_LABEL, Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, values
from twofold.settings import settings


@settings
class ProcessReward(Objective):
    """−y·log σ(v) − (1 − y)·log σ(−v), averaged over all rated steps; y is a step's label, 1 for right, and v the value
    that the model reads at the step's last token."""

    kind: Literal["process_reward"] = "process_reward"

    requires = (STEP_LABEL,)
    data_kind = "steps"
    reads = "values"

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        rated_S = batch.rated_S
        value_N = values(outputs)[rated_S]
        label_N = batch.token_columns[STEP_LABEL][rated_S].to(value_N.dtype)
        loss_N = binary_cross_entropy_with_logits(value_N, label_N, reduction="none")
        seen_N, right_N = value_N.detach(), label_N >= 0.5
        metrics = {
            "accuracy": (seen_N >= 0) == right_N,
            "right": right_N,
            "probability": seen_N.sigmoid(),
        }
        return Loss(
            {"process_reward": Term(loss_N, "step")},
            {name: Term(value_N.to(loss_N.dtype), "step") for name, value_N in metrics.items()},
        )
