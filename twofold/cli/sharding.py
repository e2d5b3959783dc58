"""Verbs that work on many independent items, in shards: `--shard`, a SLURM array, or `--engine ray`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from twofold import shards
from twofold.cli.progress import RichProgress
from twofold.cli.terminal import results
from twofold.cli.verb_command import command_words
from twofold.errors import RecipeError
from twofold.progress import Progress
from twofold.shards import Make, Merged, Shard, Work

LOCAL, RAY = "local", "ray"
OWN = ("--engine", "--shards", "--ray-address")
"""Options of the command that starts shards, which the shards do not have."""
PANEL = "Many machines"


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Options of every verb with shards; --out is the merged file."""

    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            rich_help_panel=PANEL,
            help="Shard 0/8 to 7/8, or auto in a SLURM array; then: twofold data merge OUT.",
        ),
    ] = None
    engine: Annotated[
        str,
        typer.Option(
            metavar="E", rich_help_panel=PANEL, help="local, or ray: shards over a Ray cluster, merged at the end."
        ),
    ] = LOCAL
    shards: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=PANEL, min=1, help="For ray: the number of shards (its GPUs or CPUs)."
        ),
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="A", rich_help_panel=PANEL, help="Of a Ray cluster (RAY_ADDRESS; else one is started here)."
        ),
    ] = None


def refuse_odd_shards(options: ShardOptions, out: Path | None) -> None:
    """Raise RecipeError for options that do not go together, before anything is read."""
    if options.engine not in (LOCAL, RAY):
        raise RecipeError(f"{options.engine!r} is no engine", where="--engine", remedy=f"one of {LOCAL}, {RAY}")
    alone = options.engine == LOCAL
    wrong = {
        "--shards": alone and options.shards is not None,
        "--ray-address": alone and options.ray_address is not None,
    }
    for where, so in wrong.items():
        if so:
            raise RecipeError("goes with --engine ray", where=where, remedy="add it, or leave this out")
    if options.shard is not None and not alone:
        raise RecipeError("--engine ray makes the shards itself", where="--shard", remedy="leave one of them out")
    if out is None and (options.shard is not None or not alone):
        raise RecipeError("shards need a place", where="--out", remedy="add --out, the same for all of them")
    if options.shard is not None:
        Shard.of(options.shard)


def whole(options: ShardOptions, progress: Progress) -> bool:
    """Whether this process does all of the work. Warns if a SLURM array would then do it many times."""
    array = shards.in_array()
    if options.shard is None and options.engine == LOCAL and array is not None and array.count > 1:
        told = f"this is task {array.index} of {array.count} of a SLURM array, and each does all of the work"
        progress.warn(f"{told} → add --shard auto")
    return options.shard is None and options.engine == LOCAL


def in_shards(
    options: ShardOptions, work: Work, out: Path, make: Make, finish: Callable[[Merged], None], progress: RichProgress
) -> None:
    """Process the one shard that was named, or all of them on a cluster. Then `finish` as `twofold data merge` does."""
    if options.shard is not None:
        shard = Shard.of(options.shard)
        report_shard(shards.run(work, out, shard, make), out, shard)
        return
    over_cluster(options, -(-work.items // work.grain), out, progress)
    finish(shards.merge(out))


def report_shard(done: bool, out: Path, shard: Shard) -> None:
    """Print that a shard is finished, and the next command."""
    told = f"{shard.path(out)}: shard {shard.index} of {shard.count}" + ("" if done else ", finished before")
    results().print(f"{told}; when all are done: twofold data merge {out}", soft_wrap=True)


def over_cluster(options: ShardOptions, most: int, out: Path, progress: RichProgress) -> None:
    """Run every shard of this command, at most `most`, on Ray. Finished shards are not run again."""
    from twofold.cli.cluster import Cluster

    words = command_words.get()
    before = {shard.count for shard in shards.begun(out)}
    with Cluster(options.ray_address, progress) as cluster:
        count = options.shards or (before.pop() if len(before) == 1 else min(most, cluster.size))
        cluster.run([shard_command(words, Shard(index, count)) for index in range(count)])


def shard_command(words: Sequence[str], shard: Shard) -> list[str]:
    """The command for one shard, from the `words` of the command on a cluster."""
    own: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in OWN:
            next(rest, None)
        elif not word.startswith(tuple(f"{option}=" for option in OWN)):
            own.append(word)
    return [*own, f"--shard={shard.index}/{shard.count}"]
