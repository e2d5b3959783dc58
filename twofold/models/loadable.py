"""Reasons why a model cannot be loaded, each as one message: files, packages, weights, another model's tokenizer."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import nn

from twofold.errors import ModelError, first_line
from twofold.world import part_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LAYER = re.compile(r"((?:[A-Za-z_]\w*\.)+)\d+\.")
"""The name of a weight up to the number of its layer."""


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn an error of transformers while it loads a model into one ModelError."""
    try:
        yield
    except ImportError as error:
        remedy = "install what it names, or choose a model that is stored without it"
        raise ModelError(f"needs a package that is not here: {first_line(error)}", where=path, remedy=remedy) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, TypeError | AttributeError) and _is_ours(error):
            raise
        what = f"a file lacks {first_line(error)}" if isinstance(error, KeyError) else first_line(error)
        raise ModelError(what, where=path, remedy=_local_remedy(path)) from error


def _is_ours(error: Exception) -> bool:
    """Whether twofold itself raised the error, rather than a library."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("twofold.")


def refuse_other_weights(model: PreTrainedModel, info: Mapping[str, Any], path: str) -> None:
    """Raise ModelError if `info` of transformers' loading names weights that are missing or of another shape, or layers
    beyond the model's: transformers makes the former at random and leaves the latter out, with only a log message."""
    kind, remedy = type(model).__name__, "the folder is of another model, or damaged: check it"
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"lacks weights that a {kind} has: {_first(missing)}", where=path, remedy=remedy)
    if shapes := sorted(info["mismatched_keys"]):
        name, here, wanted = shapes[0]
        what = f"{name} is {list(here)}, and config.json makes it {list(wanted)}"
        raise ModelError(what, where=path, remedy=remedy)
    numbered = {key: _LAYER.match(key) for key in sorted(info["unexpected_keys"])}
    own = {name.removeprefix(f"{model.base_model_prefix}.") for name in model.state_dict()}
    stacks = {match[1] for name in own if (match := _LAYER.match(name))}
    prefix = f"{model.base_model_prefix}."
    if more := [key for key, match in numbered.items() if match and match[1].removeprefix(prefix) in stacks]:
        what = f"holds more layers than config.json names: {_first(more)}"
        raise ModelError(what, where=path, remedy=remedy)


def _first(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if names[1:] else names[0]


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
