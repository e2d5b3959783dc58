"""The protocol by which long work reports its progress. Nothing below the command line prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the reports of long work. Every call is cheap and may be ignored."""

    def begin(self, task: str, total: int | None = None) -> None: ...

    def advance(self, task: str, steps: int = 1, **figures: float) -> None: ...

    def end(self, task: str) -> None: ...

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


class Silent:
    """Reports nothing. Stores the warnings, so that a program can read them."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, task: str, total: int | None = None) -> None: ...

    def advance(self, task: str, steps: int = 1, **figures: float) -> None: ...

    def end(self, task: str) -> None: ...

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def counted(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
