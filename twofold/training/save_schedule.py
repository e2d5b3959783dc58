"""When a run saves: at an interval of steps, or of minutes. In minutes, saving takes at most a tenth of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

MINUTES = 10.0
SHARE = 0.1
"""Largest share of a run's time for checkpoints at an interval of minutes."""


@dataclass
class SaveSchedule:
    """Whether a checkpoint is due. `every` is exact, in steps. `minutes` are extended where saves are slow. Without
    either, the interval is `MINUTES`. When a run saves does not change what it computes."""

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
        """Record that a save that `began` at this time has just ended."""
        self._ended = self.clock()
        self._took = self._ended - began
