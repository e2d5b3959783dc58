"""`twofold demo`: the whole way in a minute, without network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import results, table


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over so many seeds, for a table over seeds.")] = 1,
    out: Annotated[
        Path, typer.Option(help="The folder for runs and report; what is done there is not done again.")
    ] = Path("runs/demo"),
) -> None:
    """Align the embedded model with DPO and PDPO, and compare both with it: no network, no download."""
    from twofold.cli.progress import RichProgress
    from twofold.demo.play import play

    with RichProgress() as progress:
        played = play(out, seeds=seeds, progress=progress)
    told = table(*(name if i == 0 else f"#{name}" for i, name in enumerate(played.columns)))
    for row in played.rows:
        told.add_row(*row)
    results().print(told)
    results().print(f"{played.note}\nreport: {played.report}", markup=False)
