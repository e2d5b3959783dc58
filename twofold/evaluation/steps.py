"""A process reward model on solutions with rated steps: accuracy over steps, and finding the first error.

A solution's first error is at its first step with a probability below ½ of being right. F1 is ProcessBench's: the
harmonic mean of the share of solutions with an error whose first error is at the right step, and of the share of those
without one in which none is seen (Zheng et al. 2024, arXiv:2412.06559, section 3.4).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from twofold.batch import STEP_LABEL, Group
from twofold.records import RIGHT
from twofold.statistics import Estimate, by_cluster, share_by_cluster
from twofold.statistics.bootstrap import bca_bounds

RESAMPLES = 2000


@dataclass(frozen=True)
class RatedSolution:
    """The labels of a solution's rated steps, and the probabilities that a model gives them. `prompt` identifies its
    prompt."""

    prompt: Hashable
    labels: tuple[float, ...]
    probabilities: tuple[float, ...]

    @property
    def hits(self) -> list[bool]:
        """Whether each step is rated as its label."""
        return [(p >= RIGHT) == (y >= RIGHT) for y, p in zip(self.labels, self.probabilities, strict=True)]

    @property
    def has_error(self) -> bool:
        return any(y < RIGHT for y in self.labels)

    @property
    def is_located(self) -> bool:
        """Whether the model's first error is the labels', or neither has one."""
        return _first_error(self.labels) == _first_error(self.probabilities)


@dataclass(frozen=True)
class StepReport:
    """Results on held-out solutions. `erroneous` and `correct` are the shares located of those with and without an
    error; `f1` is their harmonic mean. `right_steps` is the share of steps that are right: the accuracy of a model that
    calls all of them right."""

    accuracy: Estimate
    right_steps: Estimate
    erroneous: Estimate
    correct: Estimate
    f1: Estimate

    section: ClassVar[str] = "process_reward_model"

    @property
    def headline(self) -> dict[str, Estimate]:
        return {
            "step accuracy": self.accuracy,
            "right steps": self.right_steps,
            "first error located": self.erroneous,
            "no error seen in correct ones": self.correct,
            "first-error F1": self.f1,
        }

    @property
    def figures(self) -> dict[str, float]:
        """The figures for a line of metrics; without those that have no solution."""
        named = {"step_accuracy": self.accuracy, "first_error": self.erroneous, "no_error": self.correct, "f1": self.f1}
        return {name: estimate.value for name, estimate in named.items() if estimate.n}

    def as_dict(self) -> dict[str, Any]:
        """All figures, as in results.json."""
        return {name: estimate.as_dict() for name, estimate in self.headline.items() if estimate.n}


def rated(groups: Sequence[Group], values: Sequence[Sequence[Tensor]]) -> list[RatedSolution]:
    """Solutions with the values that a model reads before each of their tokens."""
    found: list[RatedSolution] = []
    for group, rows in zip(groups, values, strict=True):
        for branch, value_N in zip(group.branches, rows, strict=True):
            label_N = branch.token_columns[STEP_LABEL]
            kept = label_N >= 0
            probabilities = value_N.double().sigmoid()[kept]
            prompt = group.prompt.numpy().tobytes()
            found.append(RatedSolution(prompt, tuple(label_N[kept].tolist()), tuple(probabilities.tolist())))
    return found


def judge_steps(groups: Sequence[Group], values: Sequence[Sequence[Tensor]]) -> StepReport:
    """The report on `groups` whose steps are labeled. Intervals account for the correlation of a prompt's steps."""
    return step_report(rated(groups, values))


def step_report(solutions: Sequence[RatedSolution]) -> StepReport:
    """The figures of `solutions`."""
    return StepReport(
        accuracy=_share([(s.prompt, hit) for s in solutions for hit in s.hits]),
        right_steps=_share([(s.prompt, y >= RIGHT) for s in solutions for y in s.labels]),
        erroneous=_share([(s.prompt, s.is_located) for s in solutions if s.has_error]),
        correct=_share([(s.prompt, s.is_located) for s in solutions if not s.has_error]),
        f1=first_error_f1(solutions),
    )


def first_error_f1(solutions: Sequence[RatedSolution], *, seed: int = 0, level: float = 0.95) -> Estimate:
    """ProcessBench's F1 with a BCa bootstrap interval over prompts; `n` is 0 where one kind of solution is missing."""
    columns = np.array([[s.has_error, s.has_error and s.is_located, not s.has_error, not s.has_error and s.is_located]
                        for s in solutions], np.float64).reshape(-1, 4)  # fmt: skip
    if not columns[:, 0].any() or not columns[:, 2].any():
        return Estimate(0.0, 0.0, 1.0, 0, None, "one kind of solutions is missing")
    prompts = [s.prompt for s in solutions]
    units = np.stack([by_cluster(column, prompts) for column in columns.T], 1)
    number = len(units)
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    value = float(_f1(units.sum(0)))
    left_out = _f1(units.sum(0) - units)
    low, high, how = bca_bounds(value, _f1(draws @ units), left_out, level)
    method = f"bootstrap over prompts {level:.0%}, {how}"
    return Estimate(value, low, high, len(solutions), None, method, number if number < len(solutions) else None)


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean of two shares, of sums [..., 4]; 0 where one of them is 0 or has no solution."""
    erroneous, located, correct, passed = np.moveaxis(sums, -1, 0)
    whole = located * correct + passed * erroneous
    return np.divide(2 * located * passed, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def _first_error(probabilities: Sequence[float]) -> int | None:
    return next((at for at, p in enumerate(probabilities) if p < RIGHT), None)


def _share(found: Sequence[tuple[Hashable, bool]]) -> Estimate:
    return share_by_cluster([succeeded for _, succeeded in found], [prompt for prompt, _ in found])
