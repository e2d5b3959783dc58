"""Key-value caches whose rows come and go: a prompt prefilled once, its drafts in slots that others left.

Rows lie to the right: the last token of each is in the last column, whatever is left of its first is masked.
Shapes: A rows in the cache, T columns, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from twofold.errors import DataError, ModelError
from twofold.models.trial import positions

DROP = 8  # slots without a draft leave the cache once they are this part of it: all copying costs a few whole caches


class RoomyLayer(DynamicLayer):
    """A cache layer with room to grow: a step writes one column, where `DynamicLayer` copies the whole layer.

    `keys` and `values` [A, heads, T, d] are views of longer buffers: columns `_first` to `_end`.
    """

    ROOM = 64

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        key_states = key_states.to(value_states.dtype)  # which under autocast is narrower, and the attention's
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._first, self._end, self._buffers = 0, 0, (key_states[:, :, :0], value_states[:, :, :0])
        num = key_states.shape[-2]
        if self._end + num > self._buffers[0].shape[-2]:
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
        """Put the rows of `other`, which is no wider, into these slots."""
        for buffer, states in zip(self._buffers, (other.keys, other.values), strict=True):
            assert states is not None
            buffer[slot_A, :, self._end - states.shape[-2] : self._end] = states

    def narrow(self, width: int) -> None:
        """Forget all but the last columns."""
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
    """An empty cache with the model's own kinds of layers; those that keep everything get room to grow.

    Raises ModelError for a model of which a layer's state cannot be copied from a prompt to its drafts.
    """
    cache = DynamicCache(config=model.config)
    for layer in cache.layers:
        if not hasattr(layer, "batch_select_indices"):
            what = f"a cache of {type(layer).__name__} cannot be copied from a prompt to its drafts"
            raise ModelError(what, where="", remedy="draw from a model with attention in every layer")
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def refillable(model: PreTrainedModel) -> bool:
    """Whether a finished row's place can be taken by another: not where a layer keeps only a window."""
    layers = new_cache(model).layers
    return bool(layers) and all(isinstance(layer, RoomyLayer) for layer in layers)


@dataclass(frozen=True)
class Prefilled:
    """Rows whose prompts `token_AT` are in the cache, where there is one, and the logits behind them."""

    cache: DynamicCache | None
    token_AT: Tensor
    length_A: Tensor
    logits_AV: Tensor
    forced: int | None = None
    """The token with which every draft begins, whatever the logits say."""

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
        """These rows, each as often as `index` names it, with a cache of their own."""
        if self.cache is None:
            return Prefilled(None, self.token_AT[index], self.length_A[index], self.logits_AV[index])
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(index)
        return Prefilled(cache, self.token_AT[index], self.length_A[index], self.logits_AV[index])


class GrowingStore:
    """A cache that grows by a column per step and forgets those that no draft needs; A rows, all in use."""

    def __init__(self, model: PreTrainedModel, refills: bool) -> None:
        self.model, self.refills = model, refills
        self.cache: DynamicCache | None = None
        self.width, self.padded, self._moved = 0, False, False

    def fill(self, slot_A: Tensor, start: Prefilled) -> None:
        """Put these prompts into these slots: all slots of an empty cache, some of another."""
        self._moved = True
        assert start.cache is not None
        if self.cache is None:
            self.cache, self.width = start.cache, start.token_AT.shape[1]
            return
        for layer, other in zip(self.cache.layers, start.cache.layers, strict=True):
            layer.fill(slot_A, other)  # type: ignore[union-attr,operator]  # roomy, or nothing is refilled

    def size_for(self, live: int, size: int) -> int:
        """Rows to keep: the finished leave once they are a part of the cache worth a copy."""
        return live if (size - live) * DROP >= size else size

    def keep(self, index: Tensor) -> None:
        """These rows stay."""
        assert self.cache is not None
        self._moved = True
        self.cache.batch_select_indices(index)

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        """Forget the columns in which no draft has a token."""
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
        """Logits [A, V] after these tokens, which join the cache."""
        assert self.cache is not None
        self.width += 1
        mask_AT = own_columns(position_A + 1, self.width) if self.padded else None
        return next_logits(self.model, self.cache, token_A[:, None], position_A[:, None], mask_AT)


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
    """Logits [A, V] after the last of `token` [A, n], which join the cache; float32, or float64 for float64 models.

    `mask` is [A, T] for rows that lie to the right, or what the attention itself gets: [A, 1, n, T], by kind of layer
    where there are several. Without one, no row may be padded; the model is faster so.
    """
    logits = model(
        input_ids=token,
        position_ids=position,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def max_positions(model: PreTrainedModel) -> int:
    """Tokens that the model can hold, prompt and draft together."""
    return positions(model) or 2**31


def refuse_unfit(prompts: Sequence[Tensor], most: int) -> None:
    """Raise DataError for a prompt that leaves no room for a draft among `most` positions."""
    for i, prompt in enumerate(prompts):
        if not 0 < len(prompt) < most:
            raise DataError(
                f"{len(prompt)} prompt tokens; the model draws drafts after 1 to {most - 1}",
                where=f"prompt {i + 1} of {len(prompts)}",
                remedy="shorten or drop this prompt" if len(prompt) else "give it at least one token",
            )
