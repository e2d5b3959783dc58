"""Progress reports that remember every call."""

from __future__ import annotations

from typing import Any

from twofold.progress import Silent


class Heard:
    """`calls` in their order; `notes` and `warnings` are their messages."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def begin(self, task: str, total: int | None = None) -> None:
        self.calls.append(("begin", task, total))

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.calls.append(("advance", task, steps, figures))

    def end(self, task: str) -> None:
        self.calls.append(("end", task))

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def of(self, task: str) -> list[tuple[Any, ...]]:
        """The calls of a task, without its name."""
        return [(call[0], *call[2:]) for call in self.calls if call[1] == task]


class Tasks(Silent):
    """`calls` are the begin, the steps (without their figures) and the end of every task."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, task: str, total: int | None = None) -> None:
        self.calls.append(("begin", task, total))

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.calls.append(("advance", task, steps))

    def end(self, task: str) -> None:
        self.calls.append(("end", task))
