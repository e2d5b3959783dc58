"""Offline training on fixed data: SFT, DPO and every objective that needs no sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from twofold.algorithms.base import Algorithm, AlgorithmSettings, FixedRows, Run
from twofold.algorithms.schedules import Ramp, Ramps, refuse_bad_ramps, scheduled
from twofold.batch import Group
from twofold.data.order import Mixture, Order
from twofold.objectives.base import Objective
from twofold.settings import settings
from twofold.training.step import Part, Round


@settings
class Offline(AlgorithmSettings):
    """Train on fixed data, without sampling."""

    kind: Literal["offline"] = "offline"
    ramp: Mapping[str, Ramp] = field(default_factory=dict[str, Ramp])
    """Schedules for settings of the objective: {beta: {to: 0.3}}."""

    def build(self, run: Run) -> OfflineAlgorithm:
        return OfflineAlgorithm.of(run, self.ramp)


@dataclass
class OfflineAlgorithm(Algorithm):
    """Each round is the next `batch_size` groups, in the order of (seed, step) or of a `mixture`."""

    groups: Sequence[Group]
    objective: Objective
    _: KW_ONLY
    batch_size: int
    seed: int
    steps: int
    ramps: Ramps = field(default_factory=dict[str, Ramp])
    mixture: Mixture | None = None

    @classmethod
    def of(cls, run: Run, ramps: Ramps) -> OfflineAlgorithm:
        """Built from the training rows and the objective of `run`."""
        return cls(
            run.groups["train"],
            run.objective,
            batch_size=run.batch_size,
            seed=run.seed,
            steps=run.steps,
            ramps=ramps,
            mixture=run.mixture(),
        )

    def __post_init__(self) -> None:
        refuse_bad_ramps(self.objective, self.ramps)
        self.order = self.mixture or Order(len(self.groups), self.seed)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        return Round(step, [self.part(step, step)], self.figures(step))

    def part(self, turn: int, step: int) -> Part:
        """The groups of round `turn` with the objective's settings in `step`."""
        return Part([self.groups[i] for i in self.order.at(turn, self.batch_size)], self.objective_at(step))

    def objective_at(self, step: int) -> Objective:
        return scheduled(self.objective, self.ramps, step, self.steps)

    def figures(self, step: int) -> dict[str, float]:
        """The values of the changing settings in `step`."""
        objective = self.objective_at(step)
        return {name: getattr(objective, name) for name in self.ramps}

    @property
    def fixed_rows(self) -> FixedRows:
        return self.groups, self.order
