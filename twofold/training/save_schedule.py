"""When a run saves: every so many steps, or by the clock, which lets writing take a tenth of the time at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

MINUTES = 10.0
SHARE = 0.1
"""Of a run's time, for writing checkpoints by the clock."""


@dataclass
class SaveSchedule:
    """Whether a checkpoint is due. `every` steps are taken at their word; `minutes` wait longer where saves are slow;
    without either it is `MINUTES`. When one saves changes nothing that a run computes."""

    every: int | None = None
    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic
    _ended: float = field(init=False)
    _took: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._ended = self.clock()

    def due(self, step: int) -> bool:
        """Whether to save after `step` steps."""
        if self.every is not None and step % self.every == 0:
            return True
        minutes = self.minutes if self.minutes is not None or self.every is not None else MINUTES
        wait = None if minutes is None else max(60 * minutes, self._took * (1 - SHARE) / SHARE)
        return wait is not None and self.clock() - self._ended >= wait

    def took(self, began: float) -> None:
        """A save that `began` then has just ended."""
        self._ended = self.clock()
        self._took = self._ended - began
