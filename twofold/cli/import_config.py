"""`twofold import`: a recipe out of another trainer's configuration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from twofold import disk
from twofold.cli.terminal import errors, results
from twofold.errors import RecipeError


class Kind(StrEnum):
    """Whose configuration it is."""

    TRL = "trl-config"
    AXOLOTL = "axolotl"
    LLAMA_FACTORY = "llama-factory"


def import_config(
    kind: Annotated[Kind, typer.Argument(help="Whose configuration it is.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Its YAML or JSON file.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Write the recipe here; by default it is printed.", show_default=False)
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="The trainer, such as dpo or sft, where the file does not show it.", show_default=False),
    ] = None,
) -> None:
    """Write a recipe out of a configuration of TRL, axolotl or LLaMA-Factory, and list what it cannot carry over."""
    if out is not None and (out.exists() or out.is_symlink()):
        raise RecipeError("exists already", where=str(out), remedy="choose another name, or delete it")
    from twofold.config.peers import import_config as read  # imports the recipe's types

    imported = read(kind.value, file, stage)
    header = f"# From {file} ({kind.value}).\n"
    if out is None:
        results().print(header + imported.text, end="")
    else:
        disk.write(out, header + imported.text)
        results().print(f"{out}: written from {file}")
    for lost in imported.lost:
        value = " ".join(str(lost.value).split())
        errors().print(
            f"not carried over: {lost.key}: {value if len(value) <= 60 else value[:57] + '...'} → {lost.reason}"
        )
    if out is not None:
        errors().print(f"check it: twofold train {out} --dry-run")
