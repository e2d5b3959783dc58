"""A policy's implicit reward, β·log π/π_ref of a completion, as a judge of its own samples, minus a penalty per token.

Chen, Liu, Du, Pang, Liu, Sinha, Varakantham and Lin 2024, "Bootstrapping Language Models with DPO Implicit Rewards"
(DICE), arXiv:2406.09760, with its length-regularized shaping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from twofold.batch import Group
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import MovingReference, Reference
from twofold.settings import require, settings
from twofold.world import part_of

Balance = Callable[[Sequence[Sequence[float]], Sequence[Sequence[int]]], float]
"""(rewards, lengths) of each prompt's samples → the penalty per token."""


@settings
class Implicit:
    """The policy's implicit reward as judge: β·log π/π_ref of a sample, minus a penalty for its length."""

    reference: str | None = None
    """Folder or Hub name of the model that the policy was trained from. (A model compared with itself has no implicit
    reward.) With `algorithm.reference: fresh` it is used in the first round; each later round uses the policy at the
    start of the round before."""
    beta: float = 0.1
    length_penalty: float | Literal["balanced"] = 0.0
    """Penalty per token. balanced chooses the penalty that makes the best and worst samples of a round equally long
    (DICE)."""

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")
        require(self.length_penalty == "balanced" or self.length_penalty >= 0, "length_penalty must be ≥ 0")


@dataclass(frozen=True)
class ImplicitReward:
    """β·Σ log π/π_ref − penalty·tokens of the current policy. `penalty` may depend on all groups."""

    policy: Policy
    reference: Reference
    packing: Packing
    beta: float
    penalty: float | Balance

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        mine, theirs = (who.logps(groups, self.packing) for who in (self.policy, self.reference))
        rewards = [
            [self.beta * (a - b).double().sum().item() for a, b in zip(*row, strict=True)]
            for row in zip(mine, theirs, strict=True)
        ]
        lengths = [[len(b.tokens) for b in group.branches] for group in groups]
        penalty = self.penalty(rewards, lengths) if callable(self.penalty) else self.penalty
        return [[r - penalty * n for r, n in zip(*row, strict=True)] for row in zip(rewards, lengths, strict=True)]


class TrailingReference:
    """The weights of `leader` before its last update; before the first update, `first`. A policy that has just become
    its own reference has no implicit reward against it, so it is judged against the model that it was trained from.

    It copies the leader's weights in the step of the leader's update, so the loop must notify it before the leader.
    """

    name = "judge-reference"

    def __init__(self, first: Policy, leader: MovingReference) -> None:
        self.policy, self.leader = first.requires_grad_(False), leader

    @property
    def copies(self) -> list[Policy]:
        """Models of its own."""
        return [self.policy]

    def follows(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name → (judge's reference, leader) of each weight, as they are now."""
        mine = self.policy.weights()
        return {name: (mine[name], theirs) for name, theirs in self.leader.tensors().items()}

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        return self.policy.logps(groups, packing)

    def tensors(self) -> dict[str, Tensor]:
        return {name: mine.detach() for name, (mine, _) in self.follows().items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        for name, (mine, _) in self.follows().items():
            mine.copy_(part_of(tensors[name], mine))

    @torch.no_grad()
    def on_step_end(self, steps: int) -> None:
        if steps % self.leader.sync_every == 0:
            for mine, leader in self.follows().values():
                mine.copy_(leader)
