"""A model for another program: a Hugging Face folder, a GGUF file, a folder for Ollama, a command line of vLLM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from twofold.errors import ModelError
from twofold.models.adapters import base_and_adapter, is_classifier
from twofold.models.agreement import Before
from twofold.models.export import Stored, export_model, new_folder
from twofold.models.locate import refuse_existing
from twofold.models.seq2seq import encodes_prompts
from twofold.models.tokenizer_files import config_at, load_stop_tokens, load_tokenizer
from twofold.runs import gguf, ollama, vllm

Target = Literal["folder", "gguf", "ollama", "vllm"]
Weights = Stored | Literal["q8_0"]


def export(source: Path, out: Path, to: Target, dtype: Weights, *, converter: str | None, check: bool) -> list[str]:
    """Write the model in the folder `source` to the folder `out`, and return what a user reads of it.

    `check` compares the log-probabilities of a few texts before and after, in bounds that rounding explains. Raises
    ModelError, and writes nothing, where the model cannot be written so or the comparison fails.
    """
    refuse_existing(out)
    language_model = _refuse_unfit(source, to, dtype)
    before = Before(source) if check and language_model else None
    if to in ("gguf", "ollama"):
        return _as_gguf(source, out, to, dtype, gguf.converter_command(converter), before)
    export_model(source, out, dtype)  # type: ignore[arg-type]  # q8_0 was refused
    stored = _stored(out)
    lines = [f"{out}: written from {source}"]
    lines += [str(before.compare(out, stored))] if before else []
    return lines + (list(_commands(source, out, stored)) if to == "vllm" else [])


def _refuse_unfit(source: Path, to: Target, dtype: Weights) -> bool:
    """Whether the model is a language model; raises ModelError for what the target cannot take."""
    if dtype == "q8_0" and to not in ("gguf", "ollama"):
        raise ModelError("is a format of GGUF files", where="--dtype q8_0", remedy="name --to gguf or --to ollama")
    scores = is_classifier(str(source))
    kind = "a reward model" if scores else "an encoder-decoder" if _encodes_prompts(source) else ""
    if to != "folder" and kind:
        what = f"{kind} is exported as a Hugging Face folder only"
        raise ModelError(what, where=str(source), remedy="leave --to out")
    return not scores


def _encodes_prompts(source: Path) -> bool:
    base, _ = base_and_adapter(str(source))
    return (Path(base) / "config.json").is_file() and encodes_prompts(config_at(base))


def _as_gguf(
    source: Path, out: Path, to: Target, dtype: Weights, command: list[str], before: Before | None
) -> list[str]:
    with new_folder(out) as partial:
        whole = partial / "whole"
        export_model(source, whole, "auto" if dtype == "q8_0" else dtype)
        stored = _stored(whole) if dtype == "auto" else dtype
        file = f"{out.name}-{gguf.OUTTYPE[stored]}.gguf"
        tokenizer = load_tokenizer(str(whole))
        if to == "ollama":
            stops = load_stop_tokens(str(whole), tokenizer)
            texts = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(stops))]
            (partial / "Modelfile").write_text(ollama.modelfile(tokenizer, file, texts), encoding="utf-8")
        gguf.convert(whole, partial / file, stored, command)
        shutil.rmtree(whole)
        compared = _compare_file(before, partial, file, stored)
    name = out.name.lower()
    run = f"ollama create {name} -f {out / 'Modelfile'}" if to == "ollama" else f"llama-server -m {out / file} --jinja"
    return [f"{out / file}: written from {source}", *compared, run]


def _compare_file(before: Before | None, folder: Path, file: str, stored: str) -> list[str]:
    """The comparison with a GGUF file, which transformers reads; where it cannot, why there is none."""
    if before is None:
        return []
    if (reason := gguf.unreadable(folder / file)) is not None:
        return [f"log-probabilities were not compared: {reason}"]
    return [str(before.compare(folder, stored, file))]


def _commands(source: Path, out: Path, stored: str) -> Iterator[str]:
    yield vllm.serve_command(out, stored)
    if alone := vllm.lora_command(source, out.name, stored):
        yield alone


def _stored(folder: Path) -> str:
    """The dtype that the weights of a folder are in, by its config."""
    return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"])
