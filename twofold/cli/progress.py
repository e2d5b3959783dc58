"""Progress in the terminal: a bar per task with its figures and the time left, or plain lines without a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from twofold.cli.terminal import Terminal, errors

LEAD = ("loss", "margin", "accuracy", "drafts_per_second")
MOST_FIGURES = 5
PLAIN_EVERY_SECONDS = 10.0


class RichProgress:
    """`Progress` for people: a context manager around long work."""

    def __init__(self, console: Terminal | None = None) -> None:
        self._console = console or errors()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._plain: dict[str, _Plain] = {}

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, task: str, total: int | None = None) -> None:
        if not self._console.is_terminal:
            self._plain[task] = _Plain(total)
        elif task in self._tasks:
            self._bars.reset(self._tasks[task], total=total, visible=True)
        else:
            self._tasks[task] = self._bars.add_task(task, total=total, figures="")

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        if task in self._plain:
            line = self._plain[task].advance(steps, figures)
            if line:
                self._say(f"{task} {line}")
        elif task in self._tasks:
            self._bars.advance(self._tasks[task], steps)
            if figures:
                self._bars.update(self._tasks[task], figures=shown_metrics(figures))

    def end(self, task: str) -> None:
        if task in self._tasks:
            self._bars.update(self._tasks[task], visible=False)
        elif task in self._plain and (line := self._plain.pop(task).last()):
            self._say(f"{task} {line}")

    def note(self, message: str) -> None:
        self._say(message)

    def warn(self, message: str) -> None:
        self._say(f"warning: {message}", style="yellow")

    def _say(self, message: str, style: str | None = None) -> None:
        self._console.print(message, style=style, soft_wrap=True)


class _Plain:
    """One task without a terminal: a line every few seconds, and one at its end if it took that long."""

    def __init__(self, total: int | None) -> None:
        self.total, self.done, self.figures = total, 0, dict[str, float]()
        self.began, self.told_done = time.monotonic(), 0
        self.told_at = self.began

    def advance(self, steps: int, figures: dict[str, float]) -> str:
        self.done += steps
        self.figures = figures or self.figures
        now = time.monotonic()
        if now - self.told_at < PLAIN_EVERY_SECONDS:
            return ""
        self.told_at, self.told_done = now, self.done
        return self._line(now)

    def last(self) -> str:
        return self._line(time.monotonic()) if 0 < self.told_done < self.done else ""

    def _line(self, now: float) -> str:
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        left = ""
        if self.total and 0 < self.done < self.total and now > self.began + 1:
            seconds = round((now - self.began) / self.done * (self.total - self.done))
            left = f"{seconds // 60}:{seconds % 60:02d} left"
        return "  ".join(part for part in (count, shown_metrics(self.figures), left) if part)


def shown_metrics(figures: dict[str, float]) -> str:
    """The most important figures, in a few columns."""
    names = [*(n for n in LEAD if n in figures), *(n for n in figures if n not in LEAD)]
    shown = names[:MOST_FIGURES]
    return "  ".join(f"{n.replace('_per_second', '/s').replace('_', ' ')} {figures[n]:.4g}" for n in shown)
