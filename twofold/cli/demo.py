"""`twofold demo`: the whole way in a minute, without network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import results


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over so many seeds, for a table over seeds.")] = 1,
    out: Annotated[Path, typer.Option(help="The folder for runs and report.")] = Path("runs/demo"),
) -> None:
    """Align the embedded model with DPO and PDPO, and compare both with it: no network, no download."""
    from twofold.cli.progress import RichProgress
    from twofold.demo.play import play

    with RichProgress() as progress:
        told = play(out, seeds=seeds, progress=progress)
    results().print(told, markup=False)
