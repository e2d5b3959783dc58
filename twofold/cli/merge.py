"""`twofold data merge`: the shards of a command as what the command makes in one piece."""

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
"""What a verb does with what its shards made, by its word in their seals."""


def merge(out: Annotated[Path, typer.Argument(help="The output that the shards were given.")]) -> None:
    """Put all shards of data build, score, sample or evaluate together, in the order of the rows; refuse gaps and
    mixtures."""
    merged = shards.merge(out / evaluate.ITEMS if out.is_dir() else out)
    told = f"{counted(merged.items, merged.nouns.removesuffix('s'))} in {counted(merged.shards, 'shard')}"
    results().print(f"{out}: {told}", style="green", soft_wrap=True)
    FINISH[merged.verb](merged)
