"""Sampling without a cache: every step computes whole rows again. This is slow, but correct for every causal model.

It is used in three cases: the model has no cache of keys and values (recurrent layers); completions with the cache
differ from those without it (tested once on a small copy of the architecture); a completion may grow past a length at
which the model changes its rotary factors.
Shapes: A rows, T columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from twofold.errors import ModelError, NonFiniteError, first_line
from twofold.models.row_lengths import RowLengths, restart_rotary
from twofold.models.small_copy import small_copy
from twofold.models.trial import positions
from twofold.sampling.base import Sample
from twofold.sampling.cache import Prefilled

Draw = Callable[[PreTrainedModel, Literal["cache", "rows"], Sequence[Tensor], int], list[list[Sample]]]
"""Samples completions of prompts from a model, with at most this many new tokens, from its cache or from whole rows."""

AT_ONCE = 2048  # tokens per forward pass
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # nats per token; others 0.5
_PROMPTS, _NEW = (10, 7, 3), 9  # beyond a small copy's window, and on one side of its switch of rotary factors


class RowStore:
    """The tokens of the unfinished completions."""

    refills = True

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.most = model, positions(model)
        self.rows: list[Tensor] = []

    def fill(self, slot_A: Tensor, start: Prefilled) -> None:
        """Put these prompts into these slots: all slots of an empty store, or some slots of a filled one."""
        own = [tokens[len(tokens) - n :] for tokens, n in zip(start.token_AT, start.length_A.tolist(), strict=True)]
        if not self.rows:
            self.rows = own
            return
        for slot, row in zip(slot_A.tolist(), own, strict=True):
            self.rows[slot] = row

    def size_for(self, live: int, size: int) -> int:
        """The number of rows to keep: the unfinished ones."""
        return live

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        self.rows = [self.rows[i] for i in index.tolist()]

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        """Does nothing: no column can be dropped."""

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        """Logits [A, V] after these tokens. A finished completion may have grown past the model's positions."""
        grown = zip(self.rows, token_A, strict=True)
        self.rows = [torch.cat([row, token[None]])[-(self.most or len(row) + 1) :] for row, token in grown]
        return row_logits(self.model, self.rows)


def row_logits(model: PreTrainedModel, rows: Sequence[Tensor]) -> Tensor:
    """Logits [A, V] after each of `rows`. Rows of one length share a call, so that nothing is padded."""
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    found: dict[int, Tensor] = {}
    for length, places in by_length.items():
        size = max(1, AT_ONCE // length)
        for begin in range(0, len(places), size):
            part = places[begin : begin + size]
            restart_rotary(model)
            token_AT = torch.stack([rows[i] for i in part]).to(model.device)
            logits_AV = model(input_ids=token_AT, use_cache=False).logits[:, -1]
            found |= zip(part, logits_AV.to(torch.promote_types(logits_AV.dtype, torch.float32)), strict=True)
    return torch.stack([found[i] for i in range(len(rows))])


def prefilled_rows(prompts: Sequence[Tensor], model: PreTrainedModel) -> Prefilled:
    """`prompts` [P] and the logits after them, without a cache."""
    longest = max(len(prompt) for prompt in prompts)
    token_AT = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for i, prompt in enumerate(prompts):
        token_AT[i, longest - len(prompt) :] = prompt.cpu()
    length_A = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    return Prefilled(None, token_AT.to(model.device), length_A, row_logits(model, prompts))


def why_recompute(model: PreTrainedModel, prompts: Sequence[Tensor], num_new: int, draw: Draw) -> str:
    """Why the cache of `model` cannot be used for `num_new` tokens after these prompts; empty if it can."""
    classes = RowLengths.of(model.config.get_text_config())
    ends = (
        {classes.class_of(n) for p in prompts for n in (len(p), len(p) + num_new)} if classes.matter else set[object]()
    )
    if len(ends) > 1:
        return "completions may grow past a length at which it changes its rotary factors"
    return cache_fault(model, draw, padded=len({len(prompt) for prompt in prompts}) > 1)


_PADDING = "in this precision, its attention returns NaN for padded prompts"
_known: dict[str, str] = {}


def cache_fault(model: PreTrainedModel, draw: Draw, *, padded: bool = False) -> str:
    """Why completions with this kind of model's cache differ from those of whole rows, for prompts of one length or
    `padded` prompts; empty if they do not. Tested once per process."""
    key = f"{type(model).__qualname__} {model.dtype == torch.float64} {model.config.to_dict()}"
    if key not in _known:
        _known[key] = _tried(model, draw)
    return "" if _known[key] == _PADDING and not padded else _known[key]


def _tried(model: PreTrainedModel, draw: Draw) -> str:
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    tried = small_copy(model, (dtype,)) or model
    vocabulary = tried.config.get_text_config().vocab_size
    room = (positions(tried) or 2**31) - max(_PROMPTS)
    noise = torch.Generator().manual_seed(0)
    prompts = [torch.randint(vocabulary, (n if room > 1 else 1,), generator=noise) for n in _PROMPTS]
    num_new = max(1, min(_NEW, room))
    try:
        expected = draw(tried, "rows", prompts, num_new)
    except Exception as error:  # of any kind: the layers are not ours
        return f"it computes no rows: {first_line(error)}"
    try:
        found = draw(tried, "cache", prompts, num_new)
    except NonFiniteError:
        return _PADDING
    except Exception as error:  # likewise
        return error.what if isinstance(error, ModelError) else f"its cache fails ({type(error).__name__})"
    tolerance = _TOLERANCE.get(tried.dtype, 0.5)
    for a, b in zip((d for some in found for d in some), (d for some in expected for d in some), strict=True):
        if not torch.equal(a.tokens, b.tokens) or not (a.logp - b.logp).abs().max() <= tolerance:
            return "completions with its cache differ from those of whole rows"
    return ""
