"""Follows a run while it is written: new lines, progress, and whether it is still running."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from twofold import disk, manifest
from twofold.reports.columns import Columns, Lines, numbers

State = Literal["waiting", "running", "finished", "silent"]
LOGS = ("metrics.jsonl", "timings.jsonl", "warnings.jsonl")
SAMPLES = "samples.jsonl"
SILENT_STEPS, SILENT_SECONDS = 20, 60.0
RECENT = 50
CURVES = {
    "loss": ("loss",),
    "accuracy": ("accuracy", "right"),
    "margin": ("margin",),
    "reward": ("reward",),
    "KL": ("draft_kl", "kl"),
    "held-out accuracy": ("heldout/accuracy",),
    "held-out reward": ("heldout/reward",),
    "problems solved": ("exact_match/strict",),
    "win rate": ("win_rate/rate",),
    "repetition": ("samples/repetition",),
}
"""The metrics to watch, as label and metric names; the first that exists is used."""
WATCHED = {"step", "exact_match/n", *(key for keys in CURVES.values() for key in keys)}
BARS = "▁▂▃▄▅▆▇█"
MOST_TEXTS, MOST_LETTERS = 20, 2000
VERDICTS = {1: "won", 0.5: "tie", 0: "lost"}
"""The judge's verdict by the `share` of a match."""


class Rows(Protocol):
    """Consumes the rows of a file one at a time."""

    def add(self, line: Mapping[str, Any]) -> None: ...


R = TypeVar("R", bound=Rows)


class Tail(Generic[R]):
    """A JSONL file that another process writes. Its rows go to the object that `make` creates. A truncated file is read
    again from the start."""

    def __init__(self, path: Path, make: Callable[[], R]) -> None:
        self.path, self._make = path, make
        self._begin(0)

    def read(self) -> bool:
        """Reads new rows; returns whether there was any change."""
        try:
            found = self.path.stat()
            if found.st_size < self._offset or found.st_ino != self._file:
                self._begin(found.st_ino)
            with self.path.open("rb") as file:
                before = file.seek(self._offset)
                for row in self._lines.read(file):
                    self.rows.add(row)
                self._offset = file.tell()
        except OSError:
            return False
        return self._offset > before

    def _begin(self, file: int) -> None:
        self.rows, self._lines, self._offset, self._file = self._make(), Lines(), 0, file


class Watched:
    """Of metrics.jsonl: the figures that one watches, and how many steps there were."""

    def __init__(self) -> None:
        self.columns, self.steps = Columns(), 0

    def add(self, line: Mapping[str, Any]) -> None:
        if isinstance(step := line.get("step"), int):
            self.steps = max(self.steps, step + 1 if line.get("kind") == "train" else 0)
            self.columns.add({k: v for k, v in numbers(line).items() if k in WATCHED})

    def series(self, key: str, kind: str = "train") -> tuple[list[float], list[float]]:
        """Steps and values of a metric, whatever the `kind` of its lines."""
        return self.columns.series(key)

    def curves(self) -> list[Curve]:
        """Each of CURVES by its first metric that is there."""
        drawn = {name: [self.columns.series(key) for key in keys] for name, keys in CURVES.items()}
        return [
            Curve(name, *next(s for s in found if s[0])) for name, found in drawn.items() if any(s for s, _ in found)
        ]


class Recent:
    """Of timings.jsonl: how long the last steps took."""

    def __init__(self) -> None:
        self.seconds = deque[float](maxlen=RECENT)

    def add(self, line: Mapping[str, Any]) -> None:
        if isinstance(seconds := line.get("seconds"), int | float):
            self.seconds.append(float(seconds))


class Texts:
    """Of warnings.jsonl: what was warned of first, and how often in all."""

    def __init__(self) -> None:
        self.texts = list[str]()
        self.count = 0

    def add(self, line: Mapping[str, Any]) -> None:
        if "text" in line:
            self.count += 1
            self.texts += [str(line["text"])[:MOST_LETTERS]] if self.count <= MOST_TEXTS else []


class BeforeAndNow:
    """Of samples.jsonl: the first prompt with its completion at the start, and its newest one; and the newest match of
    the first prompt of a win rate."""

    def __init__(self) -> None:
        self.first, self.newest, self.played = dict[str, Any](), dict[str, Any](), dict[str, Any]()

    def add(self, line: Mapping[str, Any]) -> None:
        if not isinstance(line.get("completion"), str):
            return
        if isinstance(line.get("other"), str) and self.played.get("name", line.get("name")) == line.get("name"):
            self.played = {key: line.get(key) for key in ("name", "prompt", "completion", "other", "share", "step")}
        if not self.first:
            self.first = {key: line.get(key) for key in ("kind", "name", "prompt", "completion", "step")}
        elif all(line.get(key) == self.first[key] for key in ("kind", "name", "prompt")):
            self.newest = {key: line.get(key) for key in ("completion", "step")}

    def beside(self) -> Beside | None:
        """None before the second evaluation."""
        if not self.newest:
            return None
        now, first = self.newest, self.first
        prompt, before, after = (
            str(text)[:MOST_LETTERS] for text in (first["prompt"], first["completion"], now["completion"])
        )
        return Beside(prompt, before, after, int(now["step"] or 0))

    def match(self) -> Contested | None:
        """None without a win rate."""
        if not (played := self.played):
            return None
        prompt, own, other = (str(played[key])[:MOST_LETTERS] for key in ("prompt", "completion", "other"))
        share = played["share"]
        verdict = VERDICTS.get(share, "no verdict") if isinstance(share, int | float) else "no verdict"
        return Contested(prompt, own, other, verdict, int(played["step"] or 0))


@dataclass(frozen=True, slots=True)
class Beside:
    """A prompt with its completion before training and at an evaluation."""

    prompt: str
    before: str
    now: str
    step: int


@dataclass(frozen=True, slots=True)
class Contested:
    """A match of a win rate in training: the policy's answer, the opponent's, and the judge's verdict for the
    policy."""

    prompt: str
    own: str
    other: str
    verdict: str
    step: int


@dataclass(frozen=True)
class Curve:
    """A metric so far: its finite values by step."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Snapshot:
    """The state of a run. `seconds` is the estimated remaining time; `quiet` is the time since its last line."""

    path: Path
    state: State
    step: int
    steps: int | None
    pace: float | None
    seconds: float | None
    quiet: float
    curves: Sequence[Curve]
    warnings: Sequence[str]
    beside: Beside | None = None
    match: Contested | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return disk.real(self.path).name

    @property
    def words(self) -> str:
        """State and progress in one line."""
        count = f"step {self.step}" + (f"/{self.steps}" if self.steps else "")
        told = [count] if self.step else []
        told += [f"{self.pace:.2g} s a step"] if self.pace else []
        told += [f"{span(self.seconds)} left"] if self.state == "running" and self.seconds else []
        said = {
            "waiting": f"no step yet, nothing written for {span(self.quiet)}",
            "silent": f"silent for {span(self.quiet)}: it was stopped, or has died",
        }
        return ", ".join([said.get(self.state, self.state), *told])


class Live:
    """A run directory that is polled."""

    def __init__(self, run: Path) -> None:
        self.run = run
        metrics, timings, warnings = (run / name for name in LOGS)
        self.metrics, self.timings = Tail(metrics, Watched), Tail(timings, Recent)
        self.warnings, self.samples = Tail(warnings, Texts), Tail(run / SAMPLES, BeforeAndNow)

    def look(self) -> Snapshot:
        """Reads new lines and returns the state of the run."""
        for log in (self.metrics, self.timings, self.warnings, self.samples):
            log.read()
        step, seconds, warned = self.metrics.rows.steps, self.timings.rows.seconds, self.warnings.rows
        pace = statistics.fmean(seconds) if seconds else None
        total = self._total()
        quiet = max(0.0, time.time() - self._written())
        faults = manifest.faults(self.run, (*LOGS, "environment.json").__contains__)
        changed = [f"{name} {fault} since the run wrote it" for name, fault in faults.items()]
        more = [f"{warned.count - MOST_TEXTS} more in warnings.jsonl"] if warned.count > MOST_TEXTS else []
        return Snapshot(
            path=self.run,
            state=self._state(step, quiet, pace),
            step=step,
            steps=total,
            pace=pace,
            seconds=pace * (total - step) if pace and total else None,
            quiet=quiet,
            curves=self.metrics.rows.curves(),
            warnings=[*changed, *warned.texts, *more],
            beside=self.samples.rows.beside(),
            match=self.samples.rows.match(),
        )

    def _state(self, step: int, quiet: float, pace: float | None) -> State:
        results = self.run / "results.json"
        if results.is_file() and results.stat().st_mtime >= self._written() - 1:
            return "finished"
        if step and quiet > max(SILENT_SECONDS, SILENT_STEPS * (pace or 0.0)):
            return "silent"
        return "running" if step else "waiting"

    def _written(self) -> float:
        """When the run last wrote a line, or else made its folder."""
        told = [p.stat().st_mtime for p in (self.metrics.path, self.timings.path) if p.exists()]
        return max(told, default=self.run.stat().st_mtime)

    def _total(self) -> int | None:
        try:
            steps = json.loads((self.run / "environment.json").read_text(encoding="utf-8"))["steps"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return steps if isinstance(steps, int) and steps > 0 else None


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as at most `width` bars, each the mean of its stretch, between their least and greatest."""
    size = -(-len(values) // max(1, width))
    means = [statistics.fmean(values[i : i + size]) for i in range(0, len(values), size)] if values else []
    low, high = min(means, default=0.0), max(means, default=0.0)
    if high <= low:
        return BARS[0] * len(means)
    top = len(BARS) - 1
    return "".join(BARS[round((m - low) / (high - low) * top)] for m in means)


def span(seconds: float) -> str:
    """A stretch of time in its two largest units."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
