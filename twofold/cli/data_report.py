"""`twofold data report`: a data set on one page, with distributions, biases, and the check's findings."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.data_show import Ignore, column_map, ignored
from twofold.cli.dataclass_options import spread
from twofold.cli.terminal import results
from twofold.progress import counted

EXAMPLES = 3
NEAR = 0.8


@dataclass(frozen=True)
class ReportOptions:
    """Options of `twofold data report`."""

    source: Annotated[str, typer.Argument(help="A file, saved folder or hub name of any format that training reads.")]
    out: Annotated[Path, typer.Option(help="The page.")] = Path("data.html")
    split: Annotated[str, typer.Option(help="Which split of a hub data set.")] = "train"
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="A field's name there, as prompt=instruction."),
    ] = None
    against: Annotated[str | None, typer.Option(help="An evaluation source that these rows must not contain.")] = None
    near: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, help="The share of common word triples of near-duplicates.", show_default="0.8"),
    ] = None
    overlap: Annotated[
        float, typer.Option(min=0.01, max=1, help="With --against: the share of a prompt there that a row may contain.")
    ] = 0.5
    ignore: Ignore = None


@spread
def report(options: ReportOptions) -> None:
    """Write one offline page on a data set: lengths, scores, origins, biases, and what the check found, with rows."""
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_pages
    from twofold.data.examples import kinds
    from twofold.data.looks import Further
    from twofold.data.profile import Profile
    from twofold.data.reading import Reading
    from twofold.data.signatures import refuse_without_datasketch
    from twofold.data.validate import check
    from twofold.reports.dataset import dataset_page
    from twofold.reports.languages import phrase
    from twofold.reports.pages import write_page

    first_look(rows=[options.source])
    refuse_pages(options.out, inputs=[options.source])
    if options.near is not None:
        refuse_without_datasketch("--near")
    near = options.near or (NEAR if find_spec("datasketch") else None)
    notes = [] if near else [phrase("near-duplicates were not checked: pip install 'twofold[duplicates]'")]
    columns = column_map(options.columns or [])
    reading = Reading(options.source, columns, options.split, ignore=ignored(options.ignore))
    profile = Profile()
    further = Further(near, options.overlap, looks=(profile,))
    with RichProgress() as progress:
        found = check(reading, against=options.against, further=further, progress=progress)
        shown = kinds(found.faults, reading, EXAMPLES)
    title = phrase("{name}: data report", name=Path(options.source).name)
    write_page(options.out, dataset_page(found, profile, shown, title, notes))
    console = results()
    for note in notes:
        console.print(note)
    errors, warnings = counted(len(found.errors), "error"), counted(len(found.warnings), "warning")
    console.print(f"{options.source}: {counted(found.rows, 'row')}, {errors}, {warnings}; written to {options.out}")
    if not found.ok:
        raise typer.Exit(2)
