"""Successive halving: which trials continue, and what that costs (Jamieson and Talwalkar 2016, arXiv:1502.07943).

A rung is a number of steps after which all its trials are measured. One in `eta` trials continues to the next rung.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Halving:
    """A schedule of `rungs` measurements; `eta` is how many trials of a rung there are for each that continues."""

    rungs: int = 3
    eta: int = 2

    def sizes(self, trials: int) -> list[int]:
        """The number of trials at each rung."""
        found = [trials]
        while len(found) < self.rungs:
            found.append(max(1, -(-found[-1] // self.eta)))
        return found

    def steps(self, total: int) -> list[int]:
        """The steps at each rung of a run of `total` steps; of a short run, several rungs may be one."""
        return [max(1, math.ceil(total / self.eta**k)) for k in reversed(range(self.rungs))]

    def measured(self, trials: int) -> list[int]:
        """The places of the rungs at which there is a choice, and of the last one."""
        return [k for k, size in enumerate(self.sizes(trials)) if size > 1 or k == self.rungs - 1]

    def cost(self, trials: int, total: int) -> int:
        """Steps of all `trials` together."""
        widths = [end - begin for begin, end in pairwise([0, *self.steps(total)])]
        return sum(size * width for size, width in zip(self.sizes(trials), widths, strict=True))

    def affordable(self, most: int, total: int, budget: float) -> int:
        """The largest number of trials, at most `most`, whose steps are within `budget`."""
        return max((n for n in range(1, most + 1) if self.cost(n, total) <= budget), default=0)


def ranking(values: Mapping[int, float | None]) -> list[int]:
    """Trials by their figures, best first. Equal ones have the order of their numbers; None is a failed trial, last."""
    worst = -math.inf
    return sorted(values, key=lambda trial: (-(worst if (v := values[trial]) is None else v), trial))


def survivors(values: Mapping[int, float | None], size: int) -> list[int]:
    """The `size` best trials, without failed ones unless all have failed."""
    order = ranking(values)
    sound = [trial for trial in order if values[trial] is not None]
    return (sound or order)[:size]
