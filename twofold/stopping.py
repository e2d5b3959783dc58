"""Requests to stop long work: after its step, or at once where nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

StopAsked = Callable[[], bool]
"""Whether work should stop after its step."""


class Stopped(BaseException):
    """Work that is useless when half done (loading, an evaluation) was ended by a request to stop. It is not an
    `Exception`, so that no error handler catches it."""


class StopRequest:
    """Whether a stop was requested. A signal handler may call `request` at any moment of the main thread."""

    def __init__(self) -> None:
        self.requested = self._droppable = False

    def __call__(self) -> bool:
        return self.requested

    def request(self) -> None:
        """Request a stop. Raises Stopped inside `droppable`."""
        self.requested = True
        if self._droppable:
            self._droppable = False  # only once, so that cleanup is not interrupted
            raise Stopped

    @contextmanager
    def droppable(self) -> Iterator[None]:
        """Work that a request ends at any point. An earlier request ends it, too."""
        if self.requested:
            raise Stopped
        before, self._droppable = self._droppable, True
        try:
            yield
        finally:
            self._droppable = before

    @contextmanager
    def undroppable(self) -> Iterator[None]:
        """Work inside droppable work that handles a request by itself."""
        before, self._droppable = self._droppable, False
        try:
            yield
        finally:
            self._droppable = before


def droppable(stop: StopAsked) -> AbstractContextManager[None]:
    """`stop.droppable()`, or no effect for a plain function, which can only be called."""
    return stop.droppable() if isinstance(stop, StopRequest) else nullcontext()


def undroppable(stop: StopAsked) -> AbstractContextManager[None]:
    """`stop.undroppable()`, or no effect for a plain function."""
    return stop.undroppable() if isinstance(stop, StopRequest) else nullcontext()
