"""`twofold train`: align a model as a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import results


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe in YAML, or a run's resolved.yaml.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the recipe: objective.beta=0.2 seed=1 …")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done: settings, parameters, steps, memory.")
    ] = False,
    resume: Annotated[
        bool, typer.Option(help="Go on from the newest valid checkpoint of the run, if there is one.")
    ] = True,
) -> None:
    """Align a model as a recipe says, and leave a run directory with model, metrics and report."""
    from twofold.cli.progress import RichProgress
    from twofold.config.assemble import dry_run, train_recipe

    if dry:
        results().print(dry_run(recipe, settings or []), markup=False)
        return
    with RichProgress() as progress:
        folder = train_recipe(recipe, settings or [], progress=progress, resume=resume)
    results().print(f"{folder}: model, metrics, report.html", markup=False)
