"""Which store the unfinished completions of a model have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from twofold.models.seq2seq import encodes_prompts
from twofold.sampling.cache import GrowingStore, Prefilled, refillable
from twofold.sampling.encoded import EncodedStart, EncodedStore
from twofold.sampling.recompute import RowStore, prefilled_rows
from twofold.sampling.shared_prompt import SharedStart, SharedStore

Way = Literal["rows", "copies", "shared"]
"""Whole rows in every step, a copy of the prompt for each completion, or one prompt for all."""


class Store(Protocol):
    """The keys and values of the unfinished completions."""

    @property
    def refills(self) -> bool: ...

    def fill(self, slot_A: Tensor, start: Prefilled) -> None: ...

    def size_for(self, live: int, size: int) -> int: ...

    def keep(self, index: Tensor) -> None: ...

    def settle(self, position_A: Tensor, live_A: Tensor) -> None: ...

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor: ...


def started(prompts: Sequence[Tensor], model: PreTrainedModel, way: Way) -> Prefilled:
    """`prompts` [P], ready for decoding."""
    if encodes_prompts(model):
        return EncodedStart.reading(prompts, model, cached=way != "rows")
    if way == "rows":
        return prefilled_rows(prompts, model)
    return SharedStart.reading(prompts, model) if way == "shared" else Prefilled.of(prompts, model)


def store_of(model: PreTrainedModel, way: Way) -> Store:
    """An empty store for unfinished completions."""
    if encodes_prompts(model):
        return EncodedStore(model)
    if way == "rows":
        return RowStore(model)
    return SharedStore(model) if way == "shared" else GrowingStore(model, refillable(model))
