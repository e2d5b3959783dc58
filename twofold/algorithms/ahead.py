"""Wraps an algorithm so that its completions are sampled one step ahead of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twofold.algorithms.base import WrappedAlgorithm
from twofold.sampling.ahead import SamplesAhead
from twofold.training.stateful import Stateful
from twofold.training.step import Round


@dataclass
class AheadAlgorithm(WrappedAlgorithm):
    """`algorithm` with its `sampler`. Sampling for step k + 1 starts before step k is judged or trained."""

    sampler: SamplesAhead
    steps: int

    def round(self, step: int, state: dict[str, Any]) -> Round:
        following = self.algorithm.request(step + 1) if step + 1 < self.steps else None
        self.sampler.turn(step, self.algorithm.request(step), following)
        return self.algorithm.round(step, state)

    @property
    def stateful(self) -> Sequence[Stateful]:
        return (self.sampler, *self.algorithm.stateful)
