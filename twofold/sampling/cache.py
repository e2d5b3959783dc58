"""Key-value caches whose rows change: a prompt is prefilled once, and its completions take slots that others freed.

Rows are padded on the left: the last token of each row is in the last column, and columns before its first token are
masked.
Shapes: A rows in the cache, T columns, V vocabulary.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from twofold.errors import DataError, ModelError
from twofold.models.trial import positions

DROP = 8  # empty slots leave the cache once they are an eighth of it: all copies together cost a few whole caches


class RoomyLayer(DynamicLayer):
    """A cache layer with room to grow: a step writes one column, where `DynamicLayer` copies the whole layer.

    `keys` and `values` [A, heads, T, d] are views of longer buffers: columns `_first` to `_end`.
    """

    ROOM = 64

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        key_states = key_states.to(value_states.dtype)  # under autocast narrower, and the dtype of the attention
        num = key_states.shape[-2]
        if not self.is_initialized:  # without room: prompts are only read
            self.lazy_initialization(key_states, value_states)
            self._buffers = key_states.contiguous(), value_states.contiguous()
            self._first, self._end = 0, num
            return self._show()
        if self._end + num > self._buffers[0].shape[2]:
            self._buffers = tuple(self._roomier(buffer, num) for buffer in self._buffers)
            self._first, self._end = 0, self._end - self._first
        self._end += num
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._end - num : self._end] = states
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.is_initialized:
            live = (buffer[:, :, self._first : self._end] for buffer in self._buffers)
            self._buffers = tuple(buffer.index_select(0, indices) for buffer in live)
            self._first, self._end = 0, self._end - self._first
            self._show()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def fill(self, slot_A: Tensor, other: DynamicLayer) -> None:
        """Put the rows of `other`, which has at most as many columns, into these slots."""
        for buffer, states in zip(self._buffers, (other.keys, other.values), strict=True):
            assert states is not None
            buffer[slot_A, :, self._end - states.shape[-2] : self._end] = states

    def narrow(self, width: int) -> None:
        """Drop all but the last `width` columns."""
        self._first = self._end - width
        self._show()

    def _roomier(self, buffer: Tensor, num: int) -> Tensor:
        rows, heads, _, size = buffer.shape
        width = self._end - self._first
        roomier = buffer.new_empty(rows, heads, width + num + max(self.ROOM, width // 4), size)
        roomier[:, :, :width] = buffer[:, :, self._first : self._end]
        return roomier

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:, :, self._first : self._end] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache with the model's own kinds of layers; layers that keep all tokens get room to grow.

    Raises ModelError for a model with a layer whose state cannot be copied from a prompt to its completions.
    """
    cache = DynamicCache(config=model.config)
    for layer in cache.layers:
        if not hasattr(layer, "batch_select_indices"):
            what = f"a cache of {type(layer).__name__} cannot be copied from a prompt to its completions"
            raise ModelError(what, where="", remedy="sample from a model with attention in every layer")
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def refillable(model: PreTrainedModel) -> bool:
    """Whether a new row can take the slot of a finished one. It cannot if a layer keeps only a window."""
    layers = new_cache(model).layers
    return bool(layers) and all(isinstance(layer, RoomyLayer) for layer in layers)


@dataclass(frozen=True)
class Prefilled:
    """Rows whose prompts `token_AT` are in the cache, if there is one, and the logits after them."""

    cache: DynamicCache | None
    token_AT: Tensor
    length_A: Tensor
    logits_AV: Tensor
    forced: int | None = None
    """The token with which every completion begins, regardless of the logits."""

    @classmethod
    def of(cls, prompts: Sequence[Tensor], model: PreTrainedModel) -> Prefilled:
        """One forward pass over all `prompts` [P]."""
        longest = max(len(prompt) for prompt in prompts)
        token_AT = torch.zeros(len(prompts), longest, dtype=torch.int64)
        for i, prompt in enumerate(prompts):
            token_AT[i, longest - len(prompt) :] = prompt.cpu()
        token_AT = token_AT.to(model.device)
        length_A = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
        mask_AT = own_columns(length_A, longest)
        cache = new_cache(model)
        padding = None if all(len(prompt) == longest for prompt in prompts) else mask_AT
        logits_AV = next_logits(model, cache, token_AT, (mask_AT.cumsum(1) - 1).clamp(min=0), padding)
        return cls(cache, token_AT, length_A, logits_AV)

    def select(self, index: Tensor) -> Prefilled:
        """The rows at `index`, which may repeat, with a cache of their own."""
        if self.cache is None:
            return Prefilled(None, self.token_AT[index], self.length_A[index], self.logits_AV[index])
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(index)
        return Prefilled(cache, self.token_AT[index], self.length_A[index], self.logits_AV[index])


class GrowingStore:
    """A cache that grows by a column per step and drops columns that no completion needs; A rows, all in use."""

    def __init__(self, model: PreTrainedModel, refills: bool) -> None:
        self.model, self.refills = model, refills
        self.cache: DynamicCache | None = None
        self.width, self.padded, self._moved = 0, False, False

    def fill(self, slot_A: Tensor, start: Prefilled) -> None:
        """Put these prompts into these slots: all slots of an empty cache, or some slots of a filled one."""
        self._moved = True
        assert start.cache is not None
        if self.cache is None:
            self.cache, self.width = start.cache, start.token_AT.shape[1]
            return
        for layer, other in zip(self.cache.layers, start.cache.layers, strict=True):
            layer.fill(slot_A, other)  # type: ignore[union-attr,operator]  # roomy, or nothing is refilled

    def size_for(self, live: int, size: int) -> int:
        """The number of rows to keep. Finished rows are dropped once there are enough of them to justify a copy."""
        return rows_to_keep(live, size)

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        assert self.cache is not None
        self._moved = True
        self.cache.batch_select_indices(index)

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        """Drop the columns in which no completion has a token."""
        if not self._moved:
            return
        self._moved = False
        if self.refills:
            assert self.cache is not None
            self.width = int(position_A.max())
            for layer in self.cache.layers:
                assert isinstance(layer, RoomyLayer)
                layer.narrow(self.width)
        self.padded = bool((position_A != self.width).any())

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        """Logits [A, V] after these tokens, which are added to the cache."""
        assert self.cache is not None
        self.width += 1
        mask_AT = own_columns(position_A + 1, self.width) if self.padded else None
        return next_logits(self.model, self.cache, token_A[:, None], position_A[:, None], mask_AT)


def rows_to_keep(live: int, size: int) -> int:
    """The number of rows to keep of `size`: the `live` ones, once there are enough others to justify a copy."""
    return live if (size - live) * DROP >= size else size


def own_columns(length_A: Tensor, width: int) -> Tensor:
    """Which of `width` columns hold a row's own tokens, [A, width]."""
    return torch.arange(width, device=length_A.device) >= width - length_A[:, None]


def next_logits(
    model: PreTrainedModel,
    cache: Cache,
    token: Tensor,
    position: Tensor,
    mask: Tensor | Mapping[str, Tensor] | None,
) -> Tensor:
    """Logits [A, V] after the last of `token` [A, n], which are added to the cache; float32, or float64 for float64
    models.

    `mask` is [A, T] for rows that are padded on the left, or the mask of the attention itself: [A, 1, n, T], by kind of
    layer if there are several. Without a mask the model is faster, but no row may be padded.
    """
    logits = model(
        input_ids=token,
        position_ids=position,
        attention_mask=mask,
        use_cache=True,
        logits_to_keep=1,
        **{cache_argument(type(model).forward): cache},
    ).logits[:, -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@functools.cache
def cache_argument(forward: Callable[..., object]) -> str:
    """The name of the cache among the arguments of a model's `forward`: `cache` from transformers 5.24 on."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


class Steps(Protocol):
    """The part of a store that a trial uses."""

    def fill(self, slot_A: Tensor, start: Prefilled) -> None: ...

    def settle(self, position_A: Tensor, live_A: Tensor) -> None: ...

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor: ...


@torch.no_grad()
def step_error(model: PreTrainedModel, store: Steps, start: Callable[[Sequence[Tensor]], Prefilled]) -> float:
    """How far steps of an empty `store` with two slots are off the model's logits, as a share of these. Two completions
    of one prompt begin; after a step, a completion of a shorter prompt takes the second slot."""
    noise, vocabulary = torch.Generator().manual_seed(0), model.config.get_text_config().vocab_size
    long, short, other = (torch.randint(vocabulary, (n,), generator=noise) for n in (9, 6, 1))
    begun, slot_A = start([long[:5]]), torch.arange(2, device=model.device)
    store.fill(slot_A, begun.select(torch.zeros_like(slot_A)))
    found_AV = begun.logits_AV
    for step, tokens in enumerate(zip(long[5:], torch.cat([other, short[3:]]), strict=True)):
        if step == 1:
            store.fill(slot_A[1:], start([short[:3]]))
        position_A = torch.tensor([5 + step, 2 + step if step else 5], device=model.device)
        store.settle(position_A, slot_A)
        found_AV = store.feed(torch.stack(tokens).to(model.device), position_A)
    expected_AV = torch.cat([Prefilled.of([row], model).logits_AV for row in (long, short)])
    return float((found_AV - expected_AV).abs().max() / expected_AV.abs().max().clamp(min=1))


def max_positions(model: PreTrainedModel) -> int:
    """The maximum number of tokens of a prompt and its completion together."""
    return positions(model) or 2**31


def refuse_unfit(prompts: Sequence[Tensor], most: int) -> None:
    """Raise DataError for a prompt that leaves no room for a completion among `most` positions."""
    for i, prompt in enumerate(prompts):
        if not 0 < len(prompt) < most:
            raise DataError(
                f"{len(prompt)} prompt tokens; a prompt for this model has 1 to {most - 1}",
                where=f"prompt {i + 1} of {len(prompts)}",
                remedy="shorten or drop this prompt" if len(prompt) else "give it at least one token",
            )
