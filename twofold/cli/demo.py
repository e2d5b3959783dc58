"""`twofold demo`: the whole way in a minute, without network."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import errors, results, table
from twofold.stopping import Stopped


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over so many seeds, for a table over seeds.")] = 1,
    out: Annotated[
        Path, typer.Option(help="The folder for runs and report; what is done there is not done again.")
    ] = Path("runs/demo"),
) -> None:
    """Align the embedded model with DPO and PDPO, and compare both with it: no network, no download."""
    from twofold.cli.progress import RichProgress
    from twofold.demo.play import play
    from twofold.signals import Stop

    stop, played = Stop(), None
    with suppress(Stopped), RichProgress() as progress, stop:
        played = play(out, seeds=seeds, progress=progress, stop=stop)
    if played is None:
        errors().print("stopped and saved; the same command goes on from there")
        raise typer.Exit(stop.exit_code)
    told = table(*(name if i == 0 else f"#{name}" for i, name in enumerate(played.columns)))
    for row in played.rows:
        told.add_row(*row)
    results().print(told)
    results().print(f"{played.note}\nreport: {played.report}")
