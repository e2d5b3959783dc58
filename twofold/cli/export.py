"""`twofold export`: a plain Hugging Face folder out of a run or an adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from twofold.cli.model import is_adapter, model_folder
from twofold.cli.terminal import results
from twofold.errors import ModelError

Stored = Literal["auto", "float32", "bfloat16", "float16"]


def export(
    source: Annotated[
        Path, typer.Argument(help="A run directory, or the folder of a PEFT adapter.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    dtype: Annotated[Stored, typer.Option(help="How weights are stored; auto as the base model has them.")] = "auto",
) -> None:
    """Merge an adapter into its base model: a folder that loads with `from_pretrained`, with the tokenizer."""
    model = model_folder(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError("already exists", where=str(out), remedy="name a folder that does not exist")
    merge(model, out, dtype)
    results().print(f"{out}: written from {model}", markup=False)


def merge(model: Path, out: Path, dtype: Stored = "auto") -> None:
    """Write the model, its adapter merged in float32, to `out`: whole or not at all."""
    from twofold.models.load import ModelSettings, load_model

    loaded = load_model(ModelSettings(path=str(model), device="cpu", precision="float32"))
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        loaded.model.to(_dtype(model, dtype))  # type: ignore[arg-type]  # stubs of nn.Module.to
        loaded.model.save_pretrained(partial)
        loaded.tokenizer.save_pretrained(partial)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _dtype(model: Path, dtype: Stored) -> object:
    import torch
    from peft import PeftConfig
    from transformers import AutoConfig

    if dtype != "auto":
        return getattr(torch, dtype)
    base = PeftConfig.from_pretrained(str(model)).base_model_name_or_path if is_adapter(model) else model
    return AutoConfig.from_pretrained(base or model, trust_remote_code=False).dtype or torch.float32
