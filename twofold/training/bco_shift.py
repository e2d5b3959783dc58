"""BCO's reward shift δ (Jung et al. 2024, arXiv:2404.04656): a column, held fixed, that remembers earlier steps.

It couples all rows of a step, so it is made over the whole step, before any packing: no packing can change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from twofold.batch import PROBABILITY, WEIGHT, Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN as REFERENCE

COLUMN = "delta"


class BCOShift:
    """The provider of `delta` (nats of log-ratio; the objective multiplies it by β) and the keeper of the running means
    behind it, of Σ log π/π_ref over desirable and over undesirable completions.

    A step moves the means, itself included, before it takes δ. What only measures, so without gradient, reads them.
    """

    name = "reward-shift"

    def __init__(self, policy: Policy, packing: Packing, *, decay: float) -> None:
        self.policy, self.packing, self.decay = policy, packing, decay
        self.means: dict[str, float] = {}

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """Every branch with `delta`; all of them carry their reference's log-probabilities already."""
        means = self.means
        if torch.is_grad_enabled() or not means:
            means = moved(means, self._means(groups), self.decay)
        if torch.is_grad_enabled():
            self.means = means
        delta = half_way(means)
        return [g.with_columns([{COLUMN: delta}] * len(g.branches)) for g in groups]

    def _means(self, groups: Sequence[Group]) -> dict[str, float]:
        """By label; a row counts by its weight, with the probability of each label."""
        sums: dict[str, tuple[float, float]] = {}
        for group, said in zip(groups, self.policy.logps(groups, self.packing), strict=True):
            for branch, logp in zip(group.branches, said, strict=True):
                ratio = (logp - branch.token_columns[REFERENCE].to(logp)).double().sum().item()
                weight, sure = branch.columns.get(WEIGHT, 1.0), branch.columns.get(PROBABILITY, 1.0)
                other = Role.UNDESIRABLE if branch.role is Role.DESIRABLE else Role.DESIRABLE
                for role, mass in ((branch.role, weight * sure), (other, weight * (1 - sure))):
                    total, value = sums.get(role.name.lower(), (0.0, 0.0))
                    sums[role.name.lower()] = total + mass, value + mass * ratio
        return {label: value / total for label, (total, value) in sums.items() if total}

    def tensors(self) -> Mapping[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.means)

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        self.means = dict(numbers)

    def on_step_end(self, steps: int) -> None:
        """Nothing: the step has moved the means itself."""


def moved(means: Mapping[str, float], step: Mapping[str, float], decay: float) -> dict[str, float]:
    """The running means after a step; a label begins with its first mean, and stays where a step has none of it."""
    return {**means, **{label: now + decay * (means.get(label, now) - now) for label, now in step.items()}}


def half_way(means: Mapping[str, float]) -> float:
    """Half-way between the two labels; one never seen counts 0, the log-ratio of a policy that is its reference."""
    return sum(means.get(role.name.lower(), 0.0) for role in (Role.DESIRABLE, Role.UNDESIRABLE)) / 2
