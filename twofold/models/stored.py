"""The dtype of stored weights: a trained model is written in the dtype of its base, whatever training computes in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from twofold.disk import make_folder, remove
from twofold.models.locate import gguf_of
from twofold.models.tokenizer_files import config_at


def dtype_on_disk(path: str, revision: str | None, gguf_file: str | None = None) -> torch.dtype:
    """The dtype of the weights at `path`: that of its config, or else of the first tensor; bfloat16 for a quantized
    GGUF file."""
    if (gguf := gguf_of(path, gguf_file)) is not None:
        return _dtype_of_gguf(Path(path) / gguf)
    named = config_at(path, revision).dtype
    if named is None:
        for file in sorted(Path(path).glob("*.safetensors"))[:1]:
            with safe_open(file, framework="pt") as weights:
                named = {"F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}.get(
                    weights.get_slice(next(iter(weights.keys()))).get_dtype()
                )
    return named if isinstance(named, torch.dtype) else torch.float32


def _dtype_of_gguf(file: Path) -> torch.dtype:
    """The dtype of the largest tensor of a GGUF file."""
    if not file.is_file():
        return torch.bfloat16
    from gguf import GGUFReader  # type: ignore[import-not-found]  # of the extra `gguf`, without which nothing was loaded

    largest = max(GGUFReader(file).tensors, key=lambda tensor: tensor.n_elements)
    return {"F32": torch.float32, "F16": torch.float16}.get(largest.tensor_type.name, torch.bfloat16)


def save_weights(
    model: PreTrainedModel, folder: Path, dtype: torch.dtype, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write a Hugging Face folder with weights (those of `model`, or `weights`) in `dtype`. A score head, and weights
    that transformers keeps in float32, are not converted."""
    tied: dict[tuple[int, torch.Size], Tensor] = {}
    cast = casts(model, dtype)

    named = model.state_dict() if weights is None else weights
    narrow = {n: tied.setdefault((value.data_ptr(), value.shape), cast(n, value)) for n, value in named.items()}
    model.save_pretrained(folder, state_dict=narrow, max_shard_size=_MOST)
    config = folder / "config.json"
    written = json.loads(config.read_text(encoding="utf-8"))
    written["dtype"] = str(dtype).removeprefix("torch.")
    config.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def casts(model: PreTrainedModel, dtype: torch.dtype) -> Callable[[str, Tensor], Tensor]:
    """The function from a weight of `model`, with its name, to the tensor to store."""
    wide = {"score", *(getattr(model, "_keep_in_fp32_modules", None) or ())}
    wide |= {*(getattr(model, "_keep_in_fp32_modules_strict", None) or ())}
    return lambda name, value: value if not value.is_floating_point() or wide & {*name.split(".")} else value.to(dtype)


@contextmanager
def on_disk(folder: Path) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function that moves a tensor into a file in `folder`; the result is read from disk when used. The folder is
    removed at the end of the context."""
    remove(folder)
    make_folder(folder)
    count = 0

    def put(value: Tensor) -> Tensor:
        nonlocal count
        path, count = folder / f"{count}.safetensors", count + 1
        save_file({_ONE: value.detach().cpu().contiguous()}, path)
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(_ONE)

    try:
        yield put
    finally:
        remove(folder)


def stored_dtype(model: PreTrainedModel) -> torch.dtype:
    """The dtype in which the weights of `model` were stored; for a model that was not loaded, their current dtype."""
    return getattr(model, _REMEMBERED, model.dtype)


def remember_dtype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Record the dtype in which `model` was stored, for `stored_dtype`."""
    object.__setattr__(model, _REMEMBERED, dtype)


_REMEMBERED = "twofold_stored_dtype"
_ONE = "tensor"
_MOST = "5GB"
"""The largest file of weights; this much is in memory while it is written."""
