"""Stopping long work: a signal requests a stop after the current step, a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

from twofold.stopping import StopRequest

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, and the signals of schedulers before they kill (SLURM: `--signal=USR1@300`) and of closing terminals."""


class Stop(StopRequest):
    """A context manager that treats signals as requests to stop. A call returns whether work should stop.

    Signals that the process was started to ignore (`nohup` ignores SIGHUP) stay ignored. Schedulers send more than one
    signal; after the first, only Ctrl-C has an effect: it ends the work at once, with the loss of unsaved work. A third
    one ends the process without any cleanup.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: signal.Signals | None = None
        self._hurried = False

    def __enter__(self) -> Stop:
        heard = [s for s in WATCHED if signal.getsignal(s) != signal.SIG_IGN]
        self._before = {s: signal.signal(s, self._take) for s in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """As in a shell: 128 plus the signal's number."""
        return 128 + (self.received or signal.SIGTERM)  # another process of the run may have received it

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            self.request()
        elif number == signal.SIGINT:
            if self._hurried:
                os._exit(128 + number)
            self._hurried = True
            raise KeyboardInterrupt
