"""`twofold demo`: the whole way in two minutes without network, or with a real model in ten."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import errors, results, table
from twofold.errors import RecipeError
from twofold.stopping import Stopped


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with N seeds, for a table over seeds.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for runs and report (runs/demo, runs/demo-real); what is done there is not done again.",
            show_default=False,
        ),
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="A pretrained chat model instead: ten minutes on two cores.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="With --real: a folder or hub name (SmolLM2-135M-Instruct).", show_default=False)
    ] = None,
) -> None:
    """Align the embedded model with DPO and PDPO, and compare both with it: no network, no download."""
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look
    from twofold.signals import Stop

    if model is not None and not real:
        raise RecipeError("goes with --real", where="--model", remedy="add --real, or write a recipe: twofold train")
    first_look(models=[model])
    stop, played = Stop(), None
    with suppress(Stopped), RichProgress() as progress, stop:
        if real:
            from twofold.demo.real import play_real

            to = out or Path("runs/demo-real")
            played = play_real(to, model=model, seeds=seeds, progress=progress, stop=stop)
        else:
            from twofold.demo.play import play

            played = play(out or Path("runs/demo"), seeds=seeds, progress=progress, stop=stop)
    if played is None:
        errors().print("stopped and saved; the same command resumes")
        raise typer.Exit(stop.exit_code)
    told = table(*(name if i == 0 else f"#{name}" for i, name in enumerate(played.columns)))
    for row in played.rows:
        told.add_row(*row)
    results().print(told)
    results().print(f"{played.note}\nreport: {played.report}")
