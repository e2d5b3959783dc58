"""Checks before a model's folder is read: twofold's files are unchanged, its settings are JSON, no weights a pickle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twofold import manifest
from twofold.errors import ModelError

SAFETENSORS = ".safetensors"
OBJECTS = ("config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MOST_HEADER = 100_000_000
"""The longest header, in bytes, that safetensors itself accepts."""

_WEIGHTS = re.compile(r"(adapter_)?model(-\d+-of-\d+)?\.safetensors")


def check_folder(path: str, *, weights: bool = True) -> None:
    """Raise ModelError for a folder with a file that changed since twofold wrote it, or with weights that are not
    safetensors. Without `weights` only the other files are checked. A Hub name is not a folder, and passes."""
    folder = Path(path)
    if not folder.is_dir():
        return
    for name, fault in manifest.faults(folder, lambda name: weights or not name.endswith(SAFETENSORS)).items():
        remedy = f"put the file back, or make the model again; if the change is meant, remove {manifest.MANIFEST}"
        raise ModelError(f"{name} {fault}: it is not what was written", where=str(folder), remedy=remedy)
    for name in OBJECTS:
        _refuse_broken_object(folder / name)
    if weights:
        _refuse_pickles(folder)
        for file in sorted(folder.iterdir()):
            if _WEIGHTS.fullmatch(file.name) and header(file) is None:
                what = f"{file.name} is no safetensors file, or damaged"
                raise ModelError(what, where=str(folder), remedy="download or write it again")


def _refuse_broken_object(file: Path) -> None:
    """Raise ModelError for a file that is there and no JSON object: transformers ignores some of them."""
    try:
        value = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        what, remedy = f"{file.name} is no JSON object", "download or write it again"
        raise ModelError(what, where=str(file.parent), remedy=remedy)


def header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file; None if it is not one, or if the header does not match the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(size - 8, MOST_HEADER):
                return None
            found = json.loads(file.read(length))
        ends = [each["data_offsets"][1] for name, each in found.items() if name != "__metadata__"]
        return found if max(ends, default=0) == size - 8 - length else None
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _refuse_pickles(folder: Path) -> None:
    """Raise ModelError if the only weights are a pickle: reading a pickle can run any code."""
    safe = "adapter_model.safetensors" if (folder / "adapter_config.json").is_file() else f"*{SAFETENSORS}"
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES and "training_args" not in p.name)
    if pickles and not any(folder.glob(safe)):
        what = f"holds its weights as a pickle ({pickles[0]}), which can run code when it is read"
        remedy = f"convert it to safetensors where you trust it, and put {safe.replace('*', 'model')} here"
        raise ModelError(what, where=str(folder), remedy=remedy)
