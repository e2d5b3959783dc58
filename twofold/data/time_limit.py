"""A time limit for third-party code that may run forever, such as a chat template's loops, on every platform of
CPython.

A watching thread raises an exception in the thread that exceeds its time; it ends when there is nothing to watch. The
exception comes between two Python instructions, so a single long C call is not interrupted. The time is the watched
thread's CPU time if the platform reports it, else wall-clock time.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_PAUSE = 0.1
_IDLE = 20  # pauses without anything to watch, after which the watch ends


class _Overtime(BaseException):
    """Not an Exception, so that no code under watch takes it for one of its own."""


@dataclass
class _Call:
    thread: int
    until: float
    stopped: bool = False


class _Watch:
    def __init__(self) -> None:
        self.lock, self.calls = threading.Lock(), dict[int, _Call]()
        self.thread: threading.Thread | None = None

    def begin(self, call: _Call) -> None:
        with self.lock:
            self.calls[call.thread] = call
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._run, name="time limit", daemon=True)
                self.thread.start()

    def end(self, call: _Call) -> None:
        with self.lock:
            self.calls.pop(call.thread, None)
            if call.stopped:
                _raise_in(call.thread, None)  # what has not come yet shall not come later

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(_PAUSE)
            with self.lock:
                for call in self.calls.values():
                    if not call.stopped and _seconds(call.thread) > call.until:
                        call.stopped = True
                        _raise_in(call.thread, _Overtime)
                idle = 0 if self.calls else idle + 1
                if idle > _IDLE:
                    self.thread = None
                    return


_watch = _Watch()


def _renewed() -> None:
    """A process that was forked has no watch, and perhaps its lock."""
    _watch.__init__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renewed)


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives; raises TimeoutError where it takes longer than `seconds`."""
    thread = threading.get_ident()
    call = _Call(thread, _seconds(thread) + seconds)
    try:
        try:
            _watch.begin(call)
            return work()
        finally:
            _watch.end(call)
    except _Overtime:
        _watch.end(call)
        raise TimeoutError(f"took more than {seconds:g} s") from None


def _seconds(thread: int) -> float:
    clock = getattr(time, "pthread_getcpuclockid", None)
    try:
        return time.monotonic() if clock is None else time.clock_gettime(clock(thread))
    except OSError:
        return time.monotonic()


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
