"""`twofold tune`: trials of several recipes at an equal budget, chosen on development rows, confirmed on fresh ones."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold import disk
from twofold.cli.dataclass_options import spread
from twofold.cli.sharding import PANEL, RAY, ShardOptions, refuse_odd_shards, shard_command
from twofold.cli.terminal import errors, results, table
from twofold.cli.verb_command import command_words
from twofold.errors import BusyError, RecipeError
from twofold.progress import Progress, counted
from twofold.shards import Shard
from twofold.stopping import Stopped

if TYPE_CHECKING:
    from twofold.runs.tuning.plan import Method, Plan
    from twofold.runs.tuning.search import Search
    from twofold.runs.tuning.trial import Quiet

PATIENCE = 600.0
"""Seconds for other processes to save and end after a stop."""


@dataclass(frozen=True)
class Options(ShardOptions):
    """Options of `twofold tune`."""

    file: Annotated[Path, typer.Argument(help="A tune file in YAML.", show_default=False)]
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the tune file: out=runs/mine rungs=2 …")
    ] = None
    dry: Annotated[bool, typer.Option("--dry-run", help="Show the trials with their steps, tokens and time.")] = False
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes of this machine, each with own trials.")] = 1
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", rich_help_panel=PANEL,
            help="One of N such commands that share `out`, 0/8 to 7/8, or auto in a SLURM array.",
        ),
    ] = field(default=None, kw_only=True)  # fmt: skip


@spread
def tune(given: Options) -> None:
    """Try values in several recipes: choose by successive halving on development rows, at an equal budget for each
    recipe, and confirm the winners once on fresh rows. The same command resumes."""
    from twofold.config.shipped import shipped
    from twofold.runs.tuning.grid import read_tune_file

    refuse_odd_shards(given, Path("."))
    if given.workers > 1 and (given.shard is not None or given.engine == RAY):
        raise RecipeError("goes with one command on one machine", where="--workers", remedy="leave one of them out")
    settings, grids = read_tune_file(shipped(given.file), given.settings or [])
    out = Path(settings.out)
    if not given.dry:
        with _writable(settings.out):
            disk.make_folder(out / "trials")
    import torch

    from twofold.cli.progress import RichProgress
    from twofold.runs.tuning.plan import make_plan
    from twofold.runs.tuning.search import Search
    from twofold.runs.tuning.trial import Quiet
    from twofold.signals import Stop

    stop = Stop()
    if given.workers > 1:
        torch.set_num_threads(_threads(given.workers))
    try:
        with RichProgress() as progress, stop:
            quiet = Quiet(progress)
            with stop.droppable():
                plan = make_plan(settings, grids, quiet)
                if given.dry:
                    return _show_plan(plan, quiet)
            with _others(given, out, progress):
                command = shlex.join(["twofold", "tune", str(given.file), *(given.settings or [])])
                done = _search(Search(plan, progress, quiet, stop, _shard(given)), command)
    except Stopped:
        errors().print("stopped" if given.dry else "stopped and saved; the same command resumes")
        raise typer.Exit(stop.exit_code) from None
    if done is not None:
        _show(*done, out)


def _shard(given: Options) -> Shard:
    return Shard(0, given.workers) if given.shard is None else Shard.of(given.shard)


def _search(search: Search, command: str) -> tuple[Mapping[str, Any], Path | None] | None:
    """The figures and the winner's recipe; None if another process confirms the winners."""
    from twofold.runs.tuning.confirm import confirm, refuse_known
    from twofold.runs.tuning.outcome import outcome, write_outcome

    plan, progress = search.plan, search.progress
    refuse_known(plan)
    progress.note(_budget(plan))
    standings = search.run()
    try:
        confirmed = confirm(plan, standings, search.meter, search.stop)
    except BusyError:
        progress.note("all trials are done; another process confirms the winners")
        return None
    figures = outcome(plan, standings, confirmed, command)
    return figures, write_outcome(plan, standings, figures)


@contextmanager
def _writable(out: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "name a folder that can be made and written to"
        raise RecipeError(f"cannot be written: {words}", where=f"out: {out[:100]}", remedy=remedy) from None


@contextmanager
def _others(given: Options, out: Path, progress: Progress) -> Iterator[None]:
    """The other processes of this command: workers on this machine, or shards on a cluster, which end with it."""
    words = command_words.get()
    if given.engine == RAY:
        from twofold.cli.cluster import Cluster

        with Cluster(given.ray_address, progress) as cluster:
            count = given.shards or cluster.size
            cluster.run([shard_command(words, Shard(index, count)) for index in range(count)])
        yield
        return
    processes = [_worker(words, Shard(index, given.workers), out) for index in range(1, given.workers)]
    failed = 0
    try:
        yield
        failed = sum(process.poll() not in (None, 0) for process in processes)
    finally:
        _end(processes)
    if failed:
        progress.warn(f"{counted(failed, 'worker')} failed, and its trials were run here → read worker-*.log")


def _worker(words: Sequence[str], shard: Shard, out: Path) -> subprocess.Popen[bytes]:
    """Another process of this machine; what it prints is in a file of `out`."""
    from twofold.cli.cluster import ending_with

    own = _without(words, "--workers")
    environment = {**os.environ, "OMP_NUM_THREADS": str(_threads(shard.count))}
    command = [sys.executable, "-m", "twofold", *own, f"--shard={shard.index}/{shard.count}"]
    with (out / f"worker-{shard.index}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=ending_with(), env=environment
        )
    return process


def _threads(workers: int) -> int:
    """Threads of each of several workers. The number decides the last digits, so it is the same in all of them."""
    return max(1, (os.cpu_count() or 1) // workers)


def _without(words: Sequence[str], option: str) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word == option:
            next(rest, None)
        elif not word.startswith(f"{option}="):
            yield word


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the workers, which save first."""
    until = time.monotonic() + PATIENCE
    for process in processes:
        with suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _budget(plan: Plan) -> str:
    trials = ", ".join(f"{m.name} {_size(plan, m)} of {len(m.trials)}" for m in plan.methods)
    budget = plan.settings.budget
    each = f"{plan.budget:,} steps" if budget.tokens is None else f"{budget.tokens:,} tokens"
    return f"at most {each} for each method; points to try: {trials}"


def _size(plan: Plan, method: Method) -> str:
    size = plan.size(method)
    return "?" if size is None else str(size)


def _show_plan(plan: Plan, quiet: Quiet) -> None:
    """Every trial with its rungs, and the steps, tokens and time of each method, measured on a few steps."""
    from twofold.runs.tuning.probe import probe

    console, halving, seeds = results(), plan.halving, len(plan.settings.seeds)
    grid = table(
        "method", "#points", "#of", "rungs (trials to step)", "#steps", "#tokens", "#time", title=str(plan.out)
    )
    for method in plan.methods:
        pace = probe(method, plan.settings.seeds[0], quiet)
        size = plan.size(method, pace.tokens) or 0
        steps = halving.cost(size, method.total) * seeds
        rungs = zip(halving.sizes(size), halving.steps(method.total), strict=True)
        words = ", ".join(f"{seeds * count} to {step}" for count, step in rungs)
        tokens, seconds = steps * pace.tokens, steps * pace.seconds
        grid.add_row(method.name, str(size), str(len(method.trials)), words, f"{steps:,}", f"{tokens:,.0f}",
                     _time(seconds))  # fmt: skip
        for trial in method.trials[:size]:
            console.print(f"{method.name}: {trial.point.words}", soft_wrap=True)
    console.print(grid)
    console.print(f"development: {len(plan.development.records)} rows, fresh: {len(plan.confirm.records)} rows; tokens "
                  "and time are of training, from a few steps of each method", soft_wrap=True)  # fmt: skip


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else (
        f"{seconds / 3600:.1f} h")  # fmt: skip


def _show(figures: Mapping[str, Any], winner: Path | None, out: Path) -> None:
    from twofold.reports.tables import interval, p_value, percent, points
    from twofold.reports.tune import lead
    from twofold.statistics import Estimate

    console, metric = results(), figures["figure"]["metric"]
    grid = table("method", "winner", f"#{metric}, fresh rows", "#95% interval", "#development", "#points", "#steps",
                 "#tokens", title=f"confirmed once on {figures['confirm']['n']} fresh rows")  # fmt: skip
    for method in figures["methods"]:
        words = next(t["words"] for t in method["trials"] if t["number"] == method["winner"])
        fresh = Estimate.from_dict(method["confirmed"]) if "confirmed" in method else None
        shown = ("–", "–", "–") if fresh is None else (
            percent(fresh.value), interval(fresh), percent(method["development"]["value"]))  # fmt: skip
        cost = method["spent"]
        grid.add_row(method["name"], words, *shown, f"{method['size']} of {method['grid']}", f"{cost['steps']:,}",
                     f"{cost['tokens']:,}")  # fmt: skip
    console.print(grid)
    tests = table("two methods", "#difference", "#95% interval", "#p (Holm)", "")
    for test in figures["comparisons"]:
        difference, p = Estimate.from_dict(test["difference"]), test.get("p_holm", test["p_value"])
        words = "within noise" if p >= 0.05 else ""
        tests.add_row(f"{test['b']} − {test['a']}", points(difference.value), interval(difference, signed=True),
                      p_value(p), words)  # fmt: skip
    if figures["comparisons"]:
        console.print(tests)
    console.print(str(lead(figures)), soft_wrap=True)
    dropped = [f"{m['name']} {m['dropped_within_noise']} of {m['dropped']}" for m in figures["methods"]]
    console.print(f"dropped within noise of the best of their rung: {', '.join(dropped)}", soft_wrap=True)
    first = f"{winner}: the recipe of the best winner; {out}/recipes has all winners; " if winner else ""
    console.print(f"{first}{out}/tune.html: the page", soft_wrap=True)
