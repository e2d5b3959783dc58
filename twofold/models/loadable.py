"""Reasons why a model cannot be loaded, each as one message: files, packages, weights, another model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from torch import nn

from twofold.errors import ModelError, first_line
from twofold.world import part_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn an error of transformers while it loads a model into one ModelError."""
    try:
        yield
    except ImportError as error:
        remedy = "install what it names, or choose a model that is stored without it"
        raise ModelError(f"needs a package that is not here: {first_line(error)}", where=path, remedy=remedy) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(first_line(error), where=path, remedy=_local_remedy(path)) from error


def refuse_broken_weights(model: nn.Module, path: str) -> None:
    """Raise ModelError for weights that are NaN or infinite."""
    for name, weight in model.named_parameters():
        here = part_here(weight.detach())
        if not here.is_floating_point() or not here.numel() or here.is_meta:
            continue
        if not all(bool(extreme.isfinite()) for extreme in here.aminmax()):
            raise ModelError(
                f"its weights are damaged: {name} holds a value that is not finite (NaN or infinite)",
                where=path,
                remedy="load it again from where it came from, or take a checkpoint from before training diverged",
            )


def refuse_unknown_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Raise ModelError for a tokenizer with tokens for which the model has no embedding."""
    rows = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr, arg-type]  # an nn.Embedding
    refuse_ids(tokenizer, rows, model.name_or_path or "")


def refuse_ids(tokenizer: PreTrainedTokenizerBase, rows: int, where: str) -> None:
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows)
    if beyond:
        some = ", ".join(repr(token) for _, token in beyond[:3])
        more = f" and {len(beyond) - 3} more" if len(beyond) > 3 else ""
        raise ModelError(
            f"the model has {rows} embeddings, its tokenizer makes {len(beyond)} tokens beyond them: {some}{more}",
            where=where,
            remedy="load it with transformers, call model.resize_token_embeddings(len(tokenizer)) and save both again",
        )


def _local_remedy(path: str) -> str:
    if Path(path).is_dir():
        return "the folder must hold config.json, *.safetensors and the tokenizer's files"
    return f"no folder {path!r} here: check the path, or the hub name and your connection"
