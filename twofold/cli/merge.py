"""`twofold data merge`: joins the shards of a command into the result of the whole command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from twofold import shards
from twofold.cli import build, evaluate, sample, score
from twofold.cli.terminal import results
from twofold.progress import counted
from twofold.shards import Merged

FINISH: dict[str, Callable[[Merged], None]] = {
    "build": build.finish,
    "score": score.finish,
    "sample": sample.finish,
    "evaluate": evaluate.finish,
}
"""The function of each verb that finishes a merge, by the verb's name in the seals."""


def merge(out: Annotated[Path, typer.Argument(help="The output that the shards were given.")]) -> None:
    """Join all shards of data build, score, sample or evaluate, in the order of the rows. Missing or mixed shards are
    errors."""
    merged = shards.merge(out / evaluate.ITEMS if out.is_dir() else out)
    told = f"{counted(merged.items, merged.nouns.removesuffix('s'))} in {counted(merged.shards, 'shard')}"
    results().print(f"{out}: {told}", style="green", soft_wrap=True)
    FINISH[merged.verb](merged)
