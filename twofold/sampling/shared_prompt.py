"""One copy of a prompt's keys and values for all its completions. Each completion has only its own tokens in a cache.

Attention has two parts: one product of all queries of a prompt with the prompt's keys, and one of each query with the
keys of its own row. The log-sum-exp of the scores gives the weights with which their outputs are added, which is one
softmax over both.
Shapes: A rows, T columns of own tokens, d units of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from twofold.errors import first_line
from twofold.models.attention import UnsupportedAttention, attention_of, refuse_unknown, stock_attention
from twofold.models.seq2seq import encodes_prompts
from twofold.models.small_copy import small_copy
from twofold.sampling.cache import (
    Prefilled,
    RoomyLayer,
    new_cache,
    next_logits,
    own_columns,
    refillable,
    rows_to_keep,
    step_error,
)

NAME = "twofold_shared_prompts"
PADDING = 64  # tokens of padding in one pass over prompts, at most: about as slow as another pass
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the logits; others 0.1


@dataclass(frozen=True, eq=False)
class Prompt:
    """Keys and values [1, kv heads, P, d] of a prompt, by layer."""

    layers: Sequence[tuple[Tensor, Tensor]]
    length: int


@dataclass(frozen=True, kw_only=True)
class SharedStart(Prefilled):
    """Rows with their prompts, which they share with other rows."""

    prompts: Sequence[Prompt]

    @classmethod
    def reading(cls, prompts: Sequence[Tensor], model: PreTrainedModel) -> SharedStart:
        """One forward pass for each run of `prompts` [P] of similar lengths."""
        passes = [Prefilled.of(some, model) for some in _similar(prompts)]
        longest = max(len(prompt) for prompt in prompts)
        token_AT = torch.cat([F.pad(start.token_AT, (longest - start.token_AT.shape[1], 0)) for start in passes])
        length_A, logits_AV = (
            torch.cat([getattr(start, name) for start in passes]) for name in ("length_A", "logits_AV")
        )
        return cls(None, token_AT, length_A, logits_AV, prompts=[p for start in passes for p in _cut(start)])

    def select(self, index: Tensor) -> SharedStart:
        rows = self.token_AT[index], self.length_A[index], self.logits_AV[index]
        return SharedStart(None, *rows, prompts=[self.prompts[i] for i in index.tolist()])


def _similar(prompts: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Runs of prompts with little padding together."""
    begin = 0
    for end in range(1, len(prompts) + 1):
        lengths = [len(prompt) for prompt in prompts[begin : end + 1]]
        if end == len(prompts) or max(lengths) * len(lengths) - sum(lengths) > PADDING:
            yield prompts[begin:end]
            begin = end


def _cut(start: Prefilled) -> Iterator[Prompt]:
    """The prompts of a pass, without copies."""
    assert start.cache is not None
    layers = [layer for layer in start.cache.layers if isinstance(layer, DynamicLayer)]
    for row, length in enumerate(start.length_A.tolist()):
        own = [(x.keys[row : row + 1, :, -length:], x.values[row : row + 1, :, -length:]) for x in layers]  # type: ignore[index]  # a pass has filled them
        yield Prompt(own, length)


@dataclass(frozen=True)
class Sharing:
    """Which rows share which prompt."""

    prompts: Sequence[Prompt]
    sizes: Sequence[int]
    """The number of rows of each prompt."""
    order_A: Tensor | None = None
    """The rows by prompt; None if they are in this order."""
    inverse_A: Tensor | None = None

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Sharing:
        """For rows with these `prompts`."""
        numbers: dict[Prompt, int] = {}
        number_A = torch.tensor([numbers.setdefault(prompt, len(numbers)) for prompt in prompts])
        order_A, sizes = number_A.argsort(stable=True), number_A.bincount().tolist()
        if (number_A.diff() >= 0).all():
            return cls(list(numbers), sizes)
        return cls(list(numbers), sizes, order_A, order_A.argsort())


class SharingMask(Tensor):
    """An attention mask [1, 1, 1, 1] that only carries the store of a step: every model passes its attention the
    mask."""

    store: SharedStore

    @classmethod
    def of(cls, store: SharedStore) -> SharingMask:
        mask = torch.zeros(1, 1, 1, 1).as_subclass(cls)
        mask.store = store
        return mask

    def to(self, *args: Any, **kwargs: Any) -> SharingMask:
        """Itself: its dtype has no meaning."""
        return self


def shared_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **asked: object
) -> tuple[Tensor, None]:
    """Attention of one token per row, `query` [A, heads, 1, d], to its prompt and its own tokens, `key` and `value`
    [A, kv heads, T, d]; returns [A, 1, heads, d]. Raises `UnsupportedAttention` for what is not implemented."""
    if not isinstance(attention_mask, SharingMask) or query.shape[2] != 1:
        raise UnsupportedAttention("the model does not pass its mask to the attention")
    store, scale = attention_mask.store, asked.pop("scaling", None)
    asked.pop("dropout", None)
    refuse_unknown(module, None, asked)
    sharing, rows, groups, dtype = store.sharing, len(query), key.shape[1], value.dtype
    q = query[:, :, 0].unflatten(1, (groups, -1)).to(dtype)
    own, own_lse = _attend(q, key.to(dtype), value, store.bias(dtype), scale)
    by_prompt = q if sharing.order_A is None else q.index_select(0, sharing.order_A)
    queries = by_prompt.transpose(0, 1).flatten(1, 2)[None].split([q.shape[2] * size for size in sharing.sizes], 2)
    parts = [
        _attend(some, *prompt.layers[store.layer], None, scale)
        for some, prompt in zip(queries, sharing.prompts, strict=True)
    ]
    read, lse = (torch.cat(part, 2)[0].unflatten(1, (rows, -1)).transpose(0, 1) for part in zip(*parts, strict=True))
    if sharing.inverse_A is not None:
        read, lse = read.index_select(0, sharing.inverse_A), lse.index_select(0, sharing.inverse_A)
    share = (own_lse - lse).sigmoid_()[..., None]
    out = torch.lerp(read.to(share.dtype), own.to(share.dtype), share)
    return out.to(dtype).flatten(1, 2)[:, None], None


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: object) -> tuple[Tensor, Tensor]:
    """The output of the CPU's fused attention, and the log-sum-exp of its scores in float32 or float64."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias, scale=scale)  # type: ignore[no-any-return]  # an operator of torch


AttentionInterface.register(NAME, shared_attention)


class SuffixLayer(RoomyLayer):
    """A layer of the cache that has only the tokens after the prompt."""

    def __init__(self, store: SharedStore, number: int) -> None:
        super().__init__()
        self.store, self.number = store, number

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        self.store.layer = self.number
        return super().update(key_states, value_states, *args, **kwargs)


class SharedStore:
    """The prompts of the unfinished completions, and a cache of their own tokens."""

    refills = True

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.layers = [SuffixLayer(self, i) for i in range(len(new_cache(model).layers))]
        self.cache = Cache(layers=list(self.layers))
        self.prompts: list[Prompt] = []
        self.sharing = Sharing((), ())
        self.layer = 0
        """The layer that is computed."""
        self.width, self.padded, self._moved = 0, False, False
        self._own_AT: Tensor | None = None
        self._bias: dict[torch.dtype, Tensor] = {}

    def fill(self, slot_A: Tensor, start: Prefilled) -> None:
        """Put these prompts into these slots: all slots of an empty store, or some slots of a filled one."""
        assert isinstance(start, SharedStart)
        self._moved = True
        if not self.prompts:
            self.prompts = list(start.prompts)
        else:
            for slot, prompt in zip(slot_A.tolist(), start.prompts, strict=True):
                self.prompts[slot] = prompt

    def size_for(self, live: int, size: int) -> int:
        """The number of rows to keep. Finished rows are dropped once there are enough of them to justify a copy."""
        return rows_to_keep(live, size)

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        self._moved = True
        self.prompts = [self.prompts[i] for i in index.tolist()]
        self.cache.batch_select_indices(index)

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        """Does nothing: a step drops the columns that no completion needs."""

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        """Logits [A, V] after these tokens, which are added to the cache."""
        if self._moved:
            self._regroup(position_A)
        self.width += 1
        self._own_AT = own_columns(position_A + 1 - self.length_A, self.width) if self.padded else None
        self._bias.clear()
        with attention_of(self.model, NAME):
            return next_logits(self.model, self.cache, token_A[:, None], position_A[:, None], SharingMask.of(self))

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores of own tokens, [A, 1, 1, T], if anything; computed by the first layer of a
        step."""
        if self._own_AT is not None and dtype not in self._bias:
            own_A11T = self._own_AT[:, None, None]
            self._bias[dtype] = torch.zeros_like(own_A11T, dtype=dtype).masked_fill_(~own_A11T, -torch.inf)
        return self._bias.get(dtype)

    def _regroup(self, position_A: Tensor) -> None:
        """Find the rows of each prompt, and the columns in use."""
        self._moved = False
        self.sharing = Sharing.of(self.prompts)
        self.length_A = torch.tensor([prompt.length for prompt in self.prompts])
        own_A = position_A - self.length_A
        self.width = int(own_A.max())
        self.padded = bool((own_A != self.width).any())
        for layer in self.layers:
            if layer.is_initialized:
                layer.narrow(self.width)


_known: dict[str, str] = {}


def why_copied(model: PreTrainedModel) -> str:
    """Why each completion needs a copy of its prompt; empty if completions can share it. Tested once per process and
    kind of model, on a small copy of the architecture."""
    if model.device.type != "cpu":
        return "the attention of this device does not return the log-sum-exp of its scores"
    if encodes_prompts(model):
        return "its prompts are read by an encoder"
    if not refillable(model):
        return "a layer keeps only a window"
    key = f"{type(model).__qualname__} {model.dtype == torch.float64} {model.config.to_dict()}"
    if key not in _known:
        _known[key] = _tried(model)
    return _known[key]


def _tried(model: PreTrainedModel) -> str:
    tried = small_copy(model) or model
    try:
        with stock_attention(tried):
            error = step_error(tried, SharedStore(tried), lambda prompts: SharedStart.reading(prompts, tried))
    except Exception as fault:  # of any kind: the layers are not ours
        return f"a step with shared prompts fails: {first_line(fault)}"
    fits = error <= _TOLERANCE.get(tried.dtype, 0.1)
    return "" if fits else f"a step with shared prompts is off by {error:.1e} of the logits"
