"""`twofold report` and `twofold compare`: the results of one run or several, on a page and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twofold import disk
from twofold.cli.terminal import results, table
from twofold.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from twofold.reports.run import RunData

TRACES = ("metrics.jsonl", "results.json", "resolved.yaml")


def report(
    run: Annotated[Path, typer.Argument(help="A run directory; it may still be written.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The page; by default report.html in the run.")] = None,
    card: Annotated[bool, typer.Option("--card", help="Also write the model card, README.md, again.")] = False,
) -> None:
    """Write a run's report again: one offline page with findings, curves, answers and settings."""
    from twofold.config.first_look import refuse_pages
    from twofold.reports.card import render_card
    from twofold.reports.html import render
    from twofold.reports.pages import write_page

    read = _read([run])
    refuse_pages(out, inputs=_files([run]))
    written = [write_page(out or run / "report.html", render(read, read[0].name))]
    written += [write_page(run / "README.md", render_card(read[0]))] if card else []
    console = results()
    _tell(console, read)
    console.print(", ".join(map(str, written)))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, in the order of the page.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("compare.html"),
    title: Annotated[str, typer.Option(help="Title of the page.", show_default="the runs' names")] = "",
) -> None:
    """Compare runs on one offline page: paired tests on the same items, Holm over all of them, curves, settings."""
    from twofold.config.first_look import refuse_pages
    from twofold.reports.html import render
    from twofold.reports.pages import write_page

    read = _read(runs)
    refuse_pages(out, inputs=_files(runs))
    names = " and ".join(dict.fromkeys(run.name for run in read))
    page = write_page(out, render(read, title or (names if len(read) <= 3 else f"{len(read)} runs")))
    console = results()
    _tell(console, read)
    console.print(str(page))


def _files(runs: list[Path]) -> list[Path]:
    """The files of the runs that a page is made from."""
    from twofold.runs.folder import FILES

    return [run / name for run in runs for name in FILES]


def _read(runs: list[Path]) -> list[RunData]:
    from twofold.reports.run import read_run

    for run in runs:
        if run.is_dir() and not any((run / name).is_file() for name in TRACES):
            raise DataError("no run directory", where=str(run), remedy=f"it would hold one of {', '.join(TRACES)}")
    twice = next((run for i, run in enumerate(runs) if disk.real(run) in map(disk.real, runs[:i])), None)
    if twice is not None:
        raise DataError("named twice", where=str(twice), remedy="name every run once")
    return [read_run(run) for run in runs]


def _tell(console: Console, runs: list[RunData]) -> None:
    """Print the findings at the top of the page."""
    from twofold.reports.findings import FINDING_COLUMNS, between, finding_row, findings, review
    from twofold.reports.tables import unique

    found = findings(runs)
    if found:
        grid = table(*FINDING_COLUMNS)
        for finding in found:
            grid.add_row(*finding_row(finding))
        console.print(grid)
    for line in between(runs):
        console.print(line)
    reviewed = review(runs, unique([run.name for run in runs]))
    for worry in reviewed.worries:
        console.print(f"worry: {worry.run}: {worry.text}" if worry.run else f"worry: {worry.text}")
    if reviewed.words:
        console.print(reviewed.words)
