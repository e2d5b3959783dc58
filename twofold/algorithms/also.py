"""Rows next to those of an algorithm, with an objective of their own, so that a run forgets less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from twofold.algorithms.base import WrappedAlgorithm
from twofold.batch import Group
from twofold.data.order import Order
from twofold.objectives.base import Objective
from twofold.sampling.base import SampleRequest
from twofold.training.step import Part, Round

ALSO = "also"
"""The rows of `data.also`, and what their metrics are called."""


@dataclass
class AlsoAlgorithm(WrappedAlgorithm):
    """`algorithm`, and in every step `size` further `groups` under `objective`, whose loss counts `weight` times. Which
    ones is a function of (seed, step)."""

    groups: Sequence[Group]
    objective: Objective
    size: int
    weight: float
    seed: int

    def __post_init__(self) -> None:
        self.order = Order(len(self.groups), self.seed)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        made = self.algorithm.round(step, state)
        groups = [self.groups[i] for i in self.order.at(step, self.size)]
        return replace(made, parts=[*made.parts, Part(groups, self.objective, self.weight, name=ALSO)])

    def request(self, step: int) -> SampleRequest | None:
        return self.algorithm.request(step)
