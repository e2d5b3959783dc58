"""How long work is asked to stop: in order after its step, and at once where nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

StopAsked = Callable[[], bool]
"""Whether work should stop after its step."""


class Stopped(BaseException):
    """Work that is worth nothing by halves (loading, an evaluation) was dropped because a stop was requested. No
    `Exception`: nobody's handler of errors may take it for one."""


class StopRequest:
    """Whether a stop was requested; `request` may be called at any moment of the main thread, by a signal's handler."""

    def __init__(self) -> None:
        self.requested = self._droppable = False

    def __call__(self) -> bool:
        return self.requested

    def request(self) -> None:
        """Ask for a stop. Raises Stopped within `droppable`."""
        self.requested = True
        if self._droppable:
            self._droppable = False  # once: what cleans up is not disturbed again
            raise Stopped

    @contextmanager
    def droppable(self) -> Iterator[None]:
        """Work that a request ends wherever it is, also one that came before."""
        if self.requested:
            raise Stopped
        before, self._droppable = self._droppable, True
        try:
            yield
        finally:
            self._droppable = before

    @contextmanager
    def undroppable(self) -> Iterator[None]:
        """Work, within droppable work, that sees to a request by itself."""
        before, self._droppable = self._droppable, False
        try:
            yield
        finally:
            self._droppable = before


def droppable(stop: StopAsked) -> AbstractContextManager[None]:
    """`stop.droppable()`, or nothing of a plain function, which can be asked only."""
    return stop.droppable() if isinstance(stop, StopRequest) else nullcontext()


def undroppable(stop: StopAsked) -> AbstractContextManager[None]:
    """`stop.undroppable()`, or nothing of a plain function."""
    return stop.undroppable() if isinstance(stop, StopRequest) else nullcontext()
