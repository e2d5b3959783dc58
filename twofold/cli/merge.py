"""`twofold data merge`: the shards of a build as one file of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import results
from twofold.progress import counted


def merge(out: Annotated[Path, typer.Argument(help="The --out of the builds in shards.")]) -> None:
    """Put the rows of all shards of a build into one file, in the order of the prompts; refuse gaps and mixtures."""
    from twofold.datagen.shards import merge as put_together

    merged = put_together(out)
    shards = f"{counted(merged.questions, 'prompt')} in {counted(merged.shards, 'shard')}"
    results().print(f"{merged.out}: {counted(merged.rows, 'row')} from {shards}", style="green", soft_wrap=True)
