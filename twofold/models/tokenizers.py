"""A user's additions to a tokenizer: tokens, with rows of the model, and arguments of the chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold.errors import ModelError

ARGUMENTS = "model.template_arguments"
_OURS = {
    "messages", "conversation", "tools", "documents", "add_generation_prompt", "continue_final_message", "tokenize",
}  # fmt: skip
_NAMED = "twofold_added_rows"


class Added(NamedTuple):
    """The ids of the user's tokens, and of those among them that are new to the tokenizer."""

    named: list[int]
    new: list[int]


def prepare(tokenizer: PreTrainedTokenizerBase, add_tokens: Sequence[str], arguments: Mapping[str, Any]) -> Added:
    """Add tokens, and arguments of the chat template. Raises ModelError for an argument that the template does not
    use."""
    known = tokenizer.get_vocab()
    if empty := [token for token in add_tokens if not token.strip()]:
        raise ModelError(
            f"{empty[0]!r} is no token", where="model.add_tokens", remedy="name tokens of letters or signs"
        )
    tokenizer.add_tokens([token for token in add_tokens if token not in known])
    if arguments:
        _set_arguments(tokenizer, arguments)
    ids = tokenizer.get_vocab()
    return Added(sorted(ids[t] for t in add_tokens), sorted(ids[t] for t in add_tokens if t not in known))


def beyond(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Added:
    """The tokens for which the model has no row. An adapter's tokenizer may have such tokens."""
    rows = _rows(model)
    more = sorted(i for i in tokenizer.get_vocab().values() if i >= rows)
    return Added(more, more)


def grow(model: PreTrainedModel, added: Added) -> None:
    """Add rows to `model` for new tokens, initialized to the mean of all rows before them."""
    if added.named:
        object.__setattr__(model, _NAMED, added.named)
    if not added.new:
        return
    if (size := added.new[-1] + 1) > _rows(model):
        with torch.random.fork_rng():  # random rows, which are overwritten below
            model.resize_token_embeddings(size, mean_resizing=False)
    seen: set[int] = set()
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        for name in ("weight", "bias"):
            values = getattr(layer, name, None)
            if isinstance(values, torch.Tensor) and values.data_ptr() not in seen:
                seen.add(values.data_ptr())
                with torch.no_grad():
                    values[added.new] = values[: added.new[0]].mean(0)


def added_rows(model: PreTrainedModel) -> list[int]:
    """The rows of the user's tokens."""
    return getattr(model, _NAMED, [])


def _rows(model: PreTrainedModel) -> int:
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr, arg-type]  # an nn.Embedding


def _set_arguments(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Put the arguments at the start of the template as defaults, so that every renderer uses them, here and in other
    programs."""
    template: Any = tokenizer.chat_template
    if not template:
        what = "arguments of the chat template are given, and the tokenizer has none"
        raise ModelError(what, where=ARGUMENTS, remedy="leave them out, or choose a model with a chat template")
    texts = template if isinstance(template, dict) else {"default": template}
    words = {word for text in texts.values() for word in re.findall(r"[A-Za-z_]\w*", text)}
    for name in arguments:
        if name in _OURS or name not in words:
            close = get_close_matches(name, words - _OURS)
            what = "is not yours to set" if name in _OURS else "is nothing that the chat template reads"
            remedy = f"did you mean `{close[0]}`?" if close and name not in _OURS else "leave it out"
            raise ModelError(f"{name!r} {what}", where=ARGUMENTS, remedy=remedy)
    begin = "".join(
        f"{{% if {name} is not defined %}}{{% set {name} = {json.dumps(value)} %}}{{% endif %}}\n"
        for name, value in sorted(arguments.items())
    )
    made = {name: text if text.startswith(begin) else begin + text for name, text in texts.items()}
    tokenizer.chat_template = made if isinstance(template, dict) else made["default"]
