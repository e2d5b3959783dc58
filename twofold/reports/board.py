"""The board: all runs below a folder on one live page, each with its report, and comparisons; it only reads.

A run is known by its path below the folder, and only runs that the board lists are shown. A run whose files are links
out of the folder is not listed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from twofold.errors import TwofoldError
from twofold.reports import charts
from twofold.reports.html import render
from twofold.reports.languages import phrase
from twofold.reports.live import CURVES, WATCHED, Live, Snapshot, span
from twofold.reports.pages import environment, script_of
from twofold.reports.run import EXTRAS, read_run
from twofold.reports.tables import number

MARKS = ("metrics.jsonl", "resolved.yaml", ".lock", "environment.json")
"""A folder with one of these is a run."""
READ = (
    "metrics.jsonl", "timings.jsonl", "samples.jsonl", "warnings.jsonl", "results.json", "resolved.yaml", "recipe.yaml",
    "environment.json", "twofold-manifest.json", *(f"{name}.json" for name in EXTRAS),
)  # fmt: skip
PASSED = {"checkpoints", "model", "value-model", "served", "reference-cache", "data-cache", "node_modules"}
"""Folders that hold no runs."""
DEEPEST, MOST_RUNS, DRAWN = 4, 200, 12
PAUSE = 10
"""A page is drawn again after at least this many times the seconds that drawing it took."""
OVERVIEW = tuple(s for s in (*charts.ALONG, *charts.TRAINING) if len(s.curves) == 1 and s.curves[0].key in WATCHED)


@dataclass(frozen=True, slots=True)
class Shown:
    """A page that was drawn, of what (`tag`), and when it may be drawn again."""

    tag: str
    page: str
    next: float


@dataclass(frozen=True)
class Board:
    """The runs below `folder`; safe to share between threads. Pages refresh themselves every `every` seconds."""

    folder: Path
    every: float = 5.0
    _live: dict[str, Live] = field(default_factory=dict[str, Live])
    _shown: dict[tuple[str, ...], Shown] = field(default_factory=dict[tuple[str, ...], Shown])
    _lock: Lock = field(default_factory=Lock)

    def runs(self) -> list[str]:
        """The runs by their paths below the folder, those first that were written last; at most MOST_RUNS."""
        root = self.folder.resolve()
        found = sorted(((_written(path), path) for path in _folders(root)), reverse=True)[:MOST_RUNS]
        return [path.relative_to(root).as_posix() for _, path in found]

    def page(self, names: Sequence[str]) -> tuple[str, str] | None:
        """The page of one run or several, or of all without names, and its tag; None where a name is no listed run.

        The tag changes only when the page does.
        """
        with self._lock:
            listed = self.runs()
            if not set(names) <= set(listed):
                return None
            key, tag = tuple(names), self._tag(names or listed)
            old, now = self._shown.get(key), time.monotonic()
            if old and (old.tag == tag or now < old.next):
                return old.page, old.tag
            page = self._drawn(names)
            wait = PAUSE * (time.monotonic() - now)
            self._shown[key] = Shown(tag, page, now + wait)
            return page, tag

    def _drawn(self, names: Sequence[str]) -> str:
        if not names:
            return self._overview()
        try:
            read = [read_run(self._path(name)) for name in names]
            return render(read, " · ".join(names[:3]), refresh=self.every)
        except (TwofoldError, OSError) as error:  # it was moved or deleted a moment ago
            return _page(" · ".join(names[:3]), refresh=self.every, message=str(error).splitlines()[0])

    def look(self) -> list[tuple[str, Snapshot | None]]:
        """The runs with their states; None for one that cannot be read."""
        listed = self.runs()
        for gone in self._live.keys() - set(listed):
            del self._live[gone]
        return [(name, _look(self._live.setdefault(name, Live(self._path(name))))) for name in listed]

    def _overview(self) -> str:
        looked = self.look()
        found = [(name, self._live[name]) for name, _ in looked]
        rows = [_row(name, snapshot) for name, snapshot in looked]
        drawn = [(name, live) for name, live in found if live.metrics.rows.steps][:DRAWN]
        labels = list(zip([name for name, _ in drawn], charts.looks(range(len(drawn))), strict=True))
        figures = charts.draw(OVERVIEW, [live.metrics.rows for _, live in drawn], labels) if drawn else []
        columns = [name for name in CURVES if any(name in row["figures"] for row in rows)]
        looks = dict(labels)
        return _page(
            self.folder.resolve().name, refresh=self.every, rows=rows, columns=columns, charts=figures, looks=looks,
            drawn=len(drawn),
        )  # fmt: skip

    def _path(self, name: str) -> Path:
        return self.folder.resolve() / name

    def _tag(self, names: Sequence[str]) -> str:
        """Of what the files are now, and of states that change with time."""
        told = hashlib.sha256()
        for name in names:
            path = self._path(name)
            told.update(name.encode("utf-8", "surrogateescape"))
            for file in READ:
                try:
                    about = (path / file).stat()
                except OSError:
                    continue
                told.update(f"{file} {about.st_size} {about.st_mtime_ns}".encode())
            told.update(str(min(60, int((time.time() - _written(path)) / 60))).encode())  # a run falls silent
        return told.hexdigest()[:32]


def _folders(root: Path) -> Iterator[Path]:
    """Folders of runs below `root`, itself included, without following links."""
    for place, below, files in os.walk(root):
        path = Path(place)
        deep = len(path.relative_to(root).parts)
        if any(mark in files for mark in MARKS):
            below.clear()
            if _is_inside(path, root):
                yield path
        below[:] = sorted(b for b in below if b not in PASSED and not b.startswith(".")) if deep < DEEPEST else []


def _is_inside(run: Path, root: Path) -> bool:
    """Whether all that a page reads of a run is below `root`."""
    try:
        links = [run / name for name in READ if (run / name).is_symlink()]
        return all(link.resolve().is_relative_to(root) for link in links)
    except (OSError, RuntimeError):  # a loop
        return False


def _written(run: Path) -> float:
    """When a run was written last."""
    times = [0.0]
    for name in READ:
        try:
            times.append((run / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def _look(live: Live) -> Snapshot | None:
    try:
        return live.look()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # deleted a moment ago, or of odd content
        return None


def _row(name: str, shot: Snapshot | None) -> dict[str, Any]:
    """A run in the table: its state, and the last value of each curve."""
    if shot is None:
        unread = dict.fromkeys(("left", "quiet"), "")
        told = {"name": name, "state": phrase("cannot be read"), "kind": "unread", "steps": "–"}
        return {**told, **unread, "figures": {}, "warnings": 0}
    steps = f"{shot.step:,} / {shot.steps:,}" if shot.steps else f"{shot.step:,}"
    left = span(shot.seconds) if shot.state == "running" and shot.seconds else ""
    figures = {curve.name: number(curve.values[-1]) for curve in shot.curves}
    told = {"name": name, "state": phrase(shot.state), "kind": shot.state, "steps": steps, "left": left}
    return {**told, "quiet": span(shot.quiet), "figures": figures, "warnings": len(shot.warnings)}


def _page(title: str, *, refresh: float, message: str = "", **told: Any) -> str:
    script, digest = script_of("tables.js", "report.js", "figures.js", "live.js")
    page = {"rows": [], "columns": [], "charts": [], "looks": {}, "drawn": 0, "most": DRAWN, **told}
    template = environment().get_template("board.html.jinja")
    return template.render(page, title=title, refresh=refresh, message=message, script=script, digest=digest)
