"""Sampling from an encoder–decoder: the prompt is encoded once, and its completions are rows of the decoder that attend
to it.

All rows of a batch begin together with the model's start token. So each step has tokens of one position, and no row is
padded. The slot of a finished completion stays empty.
Shapes: A rows, P prompt tokens, T decoder tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from twofold.models.seq2seq import Encoded, start_token
from twofold.sampling.cache import Prefilled, RoomyLayer, cache_argument, rows_to_keep


@dataclass(frozen=True, kw_only=True)
class EncodedStart(Prefilled):
    """Rows with encoded prompts, and with the start token in the decoder. `cross` is their cache, if there is one."""

    encoded: Encoded
    cross: EncoderDecoderCache | None

    @classmethod
    def reading(cls, prompts: Sequence[Tensor], model: PreTrainedModel, *, cached: bool = True) -> EncodedStart:
        """One pass of the encoder over all `prompts` [P]."""
        encoded = Encoded.of(model, prompts)
        token_AT = torch.full((len(prompts), 1), start_token(model), device=model.device)
        cross = new_cross_cache(model) if cached else None
        logits_AV = decoder_logits(model, encoded, token_AT, cross)
        begin = None, token_AT, torch.ones_like(token_AT[:, 0]), logits_AV, forced_token(model)
        return cls(*begin, encoded=encoded, cross=cross)

    def select(self, index: Tensor) -> EncodedStart:
        rows = self.token_AT[index], self.length_A[index], self.logits_AV[index]
        cross = None if self.cross is None else selected(self.cross, index)
        return EncodedStart(None, *rows, self.forced, encoded=self.encoded.select(index), cross=cross)


class EncodedStore:
    """The encoded prompts and the tokens of the unfinished completions."""

    refills = False

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.rows: EncodedStart | None = None

    def fill(self, slot_A: Tensor, start: Prefilled) -> None:
        """Begin with these prompts."""
        assert isinstance(start, EncodedStart)
        self.rows = start

    def size_for(self, live: int, size: int) -> int:
        """The number of rows to keep. Finished rows are dropped once there are enough of them to justify a copy."""
        return rows_to_keep(live, size)

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        assert self.rows is not None
        self.rows = self.rows.select(index)

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        """Does nothing: no column can be dropped."""

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        """Logits [A, V] after these tokens."""
        rows, token = self.rows, token_A[:, None]
        assert rows is not None
        if rows.cross is not None:
            return decoder_logits(self.model, rows.encoded, token, rows.cross)
        grown = torch.cat([rows.token_AT, token], 1)
        self.rows = replace(rows, token_AT=grown)
        return decoder_logits(self.model, rows.encoded, grown, None)


def decoder_logits(
    model: PreTrainedModel, encoded: Encoded, token_AT: Tensor, cross: EncoderDecoderCache | None
) -> Tensor:
    """Logits [A, V] after the last of `token_AT`, which are added to the cache, if any; float32, or float64."""
    arguments = {**encoded.arguments(), cache_argument(type(model).forward): cross, "use_cache": cross is not None}
    logits_AV = model(decoder_input_ids=token_AT, **arguments).logits[:, -1]
    return logits_AV.to(torch.promote_types(logits_AV.dtype, torch.float32))


def forced_token(model: PreTrainedModel) -> int | None:
    """The first token of every completion by the generation config: BART's bos token, mBART's language token."""
    return getattr(model.generation_config, "forced_bos_token_id", None)


def new_cross_cache(model: PreTrainedModel) -> EncoderDecoderCache:
    """An empty cache: a part with room to grow for the decoder's own tokens, and a part for the encoded prompts."""
    own = DynamicCache(config=model.config.get_text_config(decoder=True))
    if all(type(layer) is DynamicLayer for layer in own.layers):  # of any number: configs contain the encoder's
        own.layers, own.layer_class_to_replicate = [], RoomyLayer
    return EncoderDecoderCache(own, DynamicCache())


def selected(cache: EncoderDecoderCache, index: Tensor) -> EncoderDecoderCache:
    """The rows at `index` in a cache of their own."""
    parts: list[Cache] = []
    for part in (cache.self_attention_cache, cache.cross_attention_cache):
        parts.append(copy.copy(part))
        parts[-1].layers = [copy.copy(layer) for layer in part.layers]
        parts[-1].batch_select_indices(index)
    return EncoderDecoderCache(*parts)
