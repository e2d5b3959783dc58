"""`twofold watch`: shows a run in the terminal, during training and after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twofold.cli.terminal import results
from twofold.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from twofold.reports.live import Live, Snapshot

WIDEST = 60
LETTERS = 300  # of a sample
BESIDE = 44  # columns for names and figures
PLAIN_SECONDS = 10.0
TRACES = (".lock", "metrics.jsonl", "resolved.yaml", "environment.json")
STYLES = {"waiting": "dim", "running": "green", "finished": "bold green", "silent": "bold yellow"}


def watch(
    run: Annotated[Path, typer.Argument(help="A run directory, being written or not.", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Print the current state and stop; for scripts.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 1.0,
) -> None:
    """Watch a run: steps, time left, curves, warnings. Ends with the run or with Ctrl-C; the run continues."""
    from twofold.reports.live import Live

    if not run.is_dir() or (once and not any((run / name).exists() for name in TRACES)):
        raise DataError("no such run directory", where=str(run), remedy="name the folder that `twofold train` writes")
    live, console = Live(run), results()
    if once:
        console.print(picture(live.look(), console))
    elif console.is_terminal:
        _follow(live, console, every)
    else:
        for line in plain_lines(live, every):
            console.print(line)


def _follow(live: Live, console: Console, every: float) -> None:
    """The picture, drawn again at every update until the run has finished."""
    from rich.live import Live as Screen

    snapshot = live.look()
    with Screen(picture(snapshot, console), console=console, auto_refresh=False) as screen:
        while snapshot.state != "finished":
            time.sleep(every)
            snapshot = live.look()
            screen.update(picture(snapshot, console), refresh=True)


def plain_lines(live: Live, every: float) -> Iterator[str]:
    """A line for each change, at most one every PLAIN_SECONDS, until the run has finished."""
    told, at = ("", -1), -PLAIN_SECONDS
    while True:
        snapshot = live.look()
        now, finished = (snapshot.state, snapshot.step), snapshot.state == "finished"
        if now != told and (finished or now[0] != told[0] or time.monotonic() - at >= PLAIN_SECONDS):
            told, at = now, time.monotonic()
            figures = [f"{c.name} {c.values[-1]:.4g}" for c in snapshot.curves]
            yield "  ".join([f"{snapshot.name}: {snapshot.words}", *figures])
        if finished:
            return
        time.sleep(every)


def picture(snapshot: Snapshot, console: Console) -> RenderableType:
    """The state of a run: a line, a curve for each main metric, and warnings."""
    from rich.console import Group
    from rich.text import Text

    from twofold.cli.terminal import table
    from twofold.reports.live import sparkline

    head = Text.assemble((snapshot.name, "bold"), ": ", (snapshot.words, STYLES[snapshot.state]))
    width = min(WIDEST, max(8, console.width - BESIDE))
    curves = table("", "", "#first", "#last")
    for curve in snapshot.curves:
        first, last = (f"{curve.values[i]:.4g}" for i in (0, -1))
        curves.add_row(curve.name, sparkline(curve.values, width), first, last)
    said = [Text(f"warning: {text}", "yellow") for text in snapshot.warnings]
    texts = table("", "")
    lines = _texts(snapshot)
    for name, text in lines:
        texts.add_row(name, Text(" ".join(text.split())[:LETTERS]))
    remedy = [Text(f"`twofold train {snapshot.path}/resolved.yaml` resumes from its last checkpoint", "dim")]
    shown: list[RenderableType] = [head, *([curves] if snapshot.curves else []), *([texts] if lines else []), *said]
    return Group(*shown, *(remedy if snapshot.state == "silent" else []))


def _texts(snapshot: Snapshot) -> list[tuple[str, str]]:
    """A sample before training and now, and a match of the win rate with its verdict, each text after its name."""
    beside, match = snapshot.beside, snapshot.match
    lines: list[tuple[str, str]] = []
    if beside is not None:
        lines += [("prompt", beside.prompt), ("before", beside.before), (f"step {beside.step}", beside.now)]
    if match is not None:
        if beside is None or (match.prompt, match.own) != (beside.prompt, beside.now):
            lines += [("win rate on", match.prompt), (f"step {match.step}", match.own)]
        lines += [("opponent", match.other), ("verdict", match.verdict)]
    return lines
