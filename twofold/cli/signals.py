"""Leaving long work in order: the first signal asks it to stop after its step, the second ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

WATCHED = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """A context manager that counts signals; calling it says whether work should stop."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> Stop:
        self._before = {s: signal.signal(s, self._take) for s in WATCHED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """As a shell counts: 128 and the signal's number."""
        return 128 + (self.received or 0)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
