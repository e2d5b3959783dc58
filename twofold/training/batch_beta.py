"""β-DPO's β of a batch (Wu et al. 2024, arXiv:2407.08639): a column, held fixed, that remembers earlier steps.

It couples all rows of a step, so it is made over the whole step, before any packing: no packing can change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from twofold.batch import Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN as REFERENCE
from twofold.objectives.beta_dpo import BetaDPO

COLUMN = "batch_beta"


class BatchBeta:
    """The provider of `batch_beta` and the keeper of M₀, the running mean of β·(log-ratio of chosen − log-ratio of
    rejected). A step moves M₀, itself included, before it takes β. What only measures, so without gradient, reads it.
    """

    name = "batch-beta"

    def __init__(self, policy: Policy, packing: Packing, objective: BetaDPO) -> None:
        self.policy, self.packing, self.objective = policy, packing, objective
        self.mean = 0.0

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """Every branch with `batch_beta`; all of them carry their reference's log-probabilities already."""
        now, how = self._margin(groups), self.objective
        if torch.is_grad_enabled():
            self.mean = moved(self.mean, now, how.momentum)
        beta = max(how.least, how.beta * (1 + how.alpha * (now - self.mean)))
        return [g.with_columns([{COLUMN: beta}] * len(g.branches)) for g in groups]

    def _margin(self, groups: Sequence[Group]) -> float:
        """The mean of M over the rows of a step, each by its weight."""
        total = value = 0.0
        for group, said in zip(groups, self.policy.logps(groups, self.packing), strict=True):
            ratio = {
                branch.role: (logp - branch.token_columns[REFERENCE].to(logp)).double().sum().item()
                for branch, logp in zip(group.branches, said, strict=True)
            }
            weight = 1.0 if group.weight is None else group.weight
            total, value = total + weight, value + weight * (ratio[Role.CHOSEN] - ratio[Role.REJECTED])
        return self.objective.beta * value / total if total else 0.0

    def tensors(self) -> Mapping[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        self.mean = float(numbers["mean"])

    def on_step_end(self, steps: int) -> None:
        """Nothing: the step has moved the mean itself."""


def moved(mean: float, now: float, momentum: float) -> float:
    """The running mean after a step."""
    return momentum * mean + (1 - momentum) * now
