"""A language model or a reward model as a plain Hugging Face folder, its adapter merged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from twofold import disk, manifest
from twofold.models.adapters import is_classifier
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, load_model
from twofold.models.locate import refuse_existing
from twofold.models.stored import save_weights, stored_dtype

Stored = Literal["auto", "float32", "bfloat16", "float16"]


def export_model(model: Path, out: Path, dtype: Stored = "auto") -> None:
    """Write the model with a manifest to `out`, in full or not at all. An adapter is merged in float32. `dtype` auto
    keeps the stored dtype of the base model.

    Raises ModelError if `out` is not empty.
    """
    refuse_existing(out)
    settings = ModelSettings(path=str(model), device="cpu", precision="float32")
    loaded = load_reward_model(settings)[1] if is_classifier(settings.path) else load_model(settings)
    with new_folder(out) as partial:
        save_weights(loaded.model, partial, stored_dtype(loaded.model) if dtype == "auto" else getattr(torch, dtype))
        loaded.tokenizer.save_pretrained(partial)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` with a manifest where nothing was raised."""
    refuse_existing(out)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        manifest.write(partial)
        disk.put_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
