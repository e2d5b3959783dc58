"""`twofold train`: align a model with a recipe."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold import disk
from twofold.cli.dataclass_options import spread
from twofold.cli.terminal import errors, results, table
from twofold.errors import RecipeError
from twofold.stopping import Stopped

if TYPE_CHECKING:
    from twofold.cli.launch import Meeting
    from twofold.config.schema import Recipe

BEFORE = "stopped before the first step; the same command starts over"
RESTARTS = 3
BETWEEN = "stopped between steps, with nothing to save; the same command resumes from the last checkpoint, if any"


@dataclass(frozen=True)
class Options:
    recipe: Annotated[Path, typer.Argument(help="A recipe in YAML, or a run's resolved.yaml.", show_default=False)]
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the recipe: objective.beta=0.2 seed=1 …")
    ] = None
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done: settings, parameters, steps, memory.")
    ] = False
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="GIB", help="With --dry-run: estimate for a GPU with this memory, present or not.",
            show_default=False,
        ),
    ] = None  # fmt: skip
    resume: Annotated[
        bool, typer.Option(help="Resume from the newest valid checkpoint of the run, if there is one.")
    ] = True
    processes: Annotated[int, typer.Option(min=1, max=1024, help="Processes of this machine that share the work.")] = 1
    restarts: Annotated[
        int,
        typer.Option("--max-restarts", min=0, max=1000, help="How often all start again when one of them is killed."),
    ] = RESTARTS
    nodes: Annotated[
        int, typer.Option(min=1, max=4096, help="Hosts that share the work: give the same command on each of them.")
    ] = 1
    rendezvous: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where hosts meet: a free port of one of them.", show_default=False),
    ] = None


@spread
def train(given: Options) -> None:
    """Align a model with a recipe, and write a run directory with model, metrics and report."""
    from twofold.config.first_look import look_at_recipe
    from twofold.config.load import load_recipe, validate
    from twofold.config.shipped import shipped

    if given.gpu_memory is not None and not given.dry:
        raise RecipeError("is for estimates", where="--gpu-memory", remedy="give --dry-run too, or leave it out")
    settings, path = given.settings or [], shipped(given.recipe)
    document = load_recipe(path, settings)
    look_at_recipe(document)
    from twofold.config.schema import Recipe  # imports torch

    resolved = validate(Recipe, document)
    if given.dry:
        _dry(resolved, given.processes, given.gpu_memory)
        return
    from twofold.cli.launch import Meeting

    meeting = Meeting.of(given.nodes, given.rendezvous, resolved.world.timeout)
    command = ["train", str(given.recipe), *settings]
    if given.processes > 1 or meeting:
        raise typer.Exit(_launched(given, [*command, *_flags(given.resume)], meeting))
    _train(resolved, disk.read_text(path), shlex.join(["twofold", *command]), resume=given.resume)


def _flags(resume: bool) -> list[str]:
    return [] if resume else ["--no-resume"]


def _train(recipe: Recipe, text: str, command: str, *, resume: bool) -> None:
    from twofold.cli.launch import end_with_launcher
    from twofold.cli.progress import RichProgress
    from twofold.progress import Silent
    from twofold.runs.train import RunOptions, train_recipe
    from twofold.signals import Stop
    from twofold.world import launched

    end_with_launcher()
    first, stop = launched().first, Stop()
    try:
        with RichProgress() if first else nullcontext(Silent()) as progress, stop:
            trained = train_recipe(
                recipe, RunOptions(progress=progress, resume=resume, stop=stop, command=command, recipe_text=text)
            )
    except Stopped:
        if first:
            errors().print(BETWEEN)
        raise typer.Exit(stop.exit_code) from None
    if trained.outcome.stopped:
        step = trained.outcome.step
        words = f"stopped after step {step} and saved; the same command resumes from there" if step else BEFORE
        if first:
            errors().print(words)
        raise typer.Exit(stop.exit_code)
    if first:
        _tell(trained.folder, trained.results)


def _launched(given: Options, arguments: list[str], meeting: Meeting | None) -> int:
    from twofold.cli.launch import launch, launched_already

    if launched_already(os.environ):
        what = "torchrun has already started this process"
        where = "--nodes" if meeting else "--processes"
        raise RecipeError(what, where=where, remedy="leave it out, or leave torchrun out")
    return launch(given.processes, arguments, given.restarts, meeting)


def _dry(recipe: Recipe, processes: int, gpu_memory: float | None) -> None:
    from twofold.cli.progress import RichProgress
    from twofold.models.planned import planned_gpu
    from twofold.runs.dry_run import dry_run
    from twofold.runs.forecast import GIB

    with RichProgress() as progress, planned_gpu(None if gpu_memory is None else int(gpu_memory * GIB)):
        run = dry_run(recipe, progress, processes)
    console = results()
    console.print(run.resolved)
    for line in run.lines():
        console.print(line)


def _tell(folder: Path, found: Mapping[str, Any]) -> None:
    """Print the main figures, and the folder with the rest."""
    from twofold.reports.run import Results
    from twofold.reports.tables import METRICS, RESULT_COLUMNS, interval, percent, results_rows

    console, told = results(), Results.of(found)
    for metric in METRICS if told.models else ():
        grid = table(*RESULT_COLUMNS, title=f"exact match, {metric}")
        for row in results_rows([told], metric):
            grid.add_row(*row)
        console.print(grid)
    for name, estimate in (told.heldout or {}).items():
        figure = f"{percent(estimate.value)}, 95% interval {interval(estimate)}, n {estimate.n}"
        console.print(f"held-out {name} {figure}")
    console.print(f"{folder}: model, metrics, results.json, report.html")
