"""A run as it is being written: its lines as they come, how far it is, and whether anybody still writes."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["waiting", "running", "finished", "silent"]
LOGS = ("metrics.jsonl", "timings.jsonl", "warnings.jsonl")
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
}
"""What one watches, in words, and the metric that tells it: the first that is there."""
BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Tail:
    """A JSONL file that someone else writes: half a line waits for its end, a file cut back is read anew."""

    path: Path
    rows: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    _offset: int = 0
    _rest: bytes = b""
    _file: int = 0

    def read(self) -> bool:
        """Take what has come; whether there was any change."""
        try:
            found = self.path.stat()
            if found.st_size < self._offset or found.st_ino != self._file:
                self.rows, self._offset, self._rest, self._file = [], 0, b"", found.st_ino
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return False
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        self.rows += [row for line in whole if (row := _object(line))]
        return bool(new)


@dataclass(frozen=True)
class Curve:
    """A metric so far: its finite values by step."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Snapshot:
    """How a run stands. `seconds` are left at the pace of its last steps; `quiet` have passed since its last line."""

    path: Path
    state: State
    step: int
    steps: int | None
    pace: float | None
    seconds: float | None
    quiet: float
    curves: Sequence[Curve]
    warnings: Sequence[str]

    @property
    def name(self) -> str:
        """What the run's folder is called."""
        return self.path.resolve().name

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
    """A run directory that is looked at again and again."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.metrics, self.timings, self.warnings = (Tail(run / name) for name in LOGS)

    def look(self) -> Snapshot:
        """Read what is new and say how the run stands."""
        for log in (self.metrics, self.timings, self.warnings):
            log.read()
        steps = [int(r["step"]) for r in self.metrics.rows if r.get("kind") == "train" and _counts(r)]
        step = max(steps, default=-1) + 1
        seconds = [float(r["seconds"]) for r in self.timings.rows if isinstance(r.get("seconds"), int | float)]
        pace = statistics.fmean(seconds[-RECENT:]) if seconds else None
        total = self._total()
        quiet = max(0.0, time.time() - self._written())
        state = self._state(step, quiet, pace)
        return Snapshot(
            path=self.run,
            state=state,
            step=step,
            steps=total,
            pace=pace,
            seconds=pace * (total - step) if pace and total else None,
            quiet=quiet,
            curves=[c for name, keys in CURVES.items() if (c := _curve(name, keys, self.metrics.rows))],
            warnings=[str(r["text"]) for r in self.warnings.rows if "text" in r],
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
    minutes, hours = round(whole / 60), whole // 3600
    return f"{minutes} min" if minutes < 120 else f"{hours} h {round((whole - 3600 * hours) / 60)} min"


def _object(line: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _counts(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("step"), int)


def _curve(name: str, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Curve | None:
    """By step; where a resumed run wrote a step twice, the last counts."""
    for key in keys:
        found = {int(r["step"]): float(r[key]) for r in rows if isinstance(r.get(key), int | float) and _counts(r)}
        points = sorted((s, v) for s, v in found.items() if math.isfinite(v))
        if points:
            return Curve(name, [s for s, _ in points], [v for _, v in points])
    return None
