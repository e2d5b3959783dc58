"""`twofold export`: a plain Hugging Face folder out of a run or an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from twofold.cli.terminal import results

Stored = Literal["auto", "float32", "bfloat16", "float16"]


def export(
    source: Annotated[
        Path, typer.Argument(help="A run directory, or the folder of a PEFT adapter.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    dtype: Annotated[Stored, typer.Option(help="How weights are stored; auto as the base model has them.")] = "auto",
) -> None:
    """Merge an adapter into its base model: a folder that loads with `from_pretrained`, with the tokenizer."""
    from twofold.models.locate import model_folder

    model = model_folder(source)
    from twofold.models.export import export_model  # imports torch

    export_model(model, out, dtype)
    results().print(f"{out}: written from {model}")
