"""Rows of a decoder that attend to encoded prompts: what they begin with, and what each step adds."""

from __future__ import annotations

import pytest
import torch
import transformers as tr
from torch import Tensor

from support.seq2seq import t5
from twofold.sampling.cache import RoomyLayer
from twofold.sampling.encoded import EncodedStart, EncodedStore, forced_token, new_cross_cache

PROMPTS = [torch.tensor([5, 6, 7]), torch.tensor([8, 9, 10, 11, 12])]


def plain(model: tr.PreTrainedModel, rows: list[tuple[int, list[int]]]) -> Tensor:
    """The logits after each row of decoder tokens, with only its own prompt."""
    return torch.stack(
        [model(input_ids=PROMPTS[p][None], decoder_input_ids=torch.tensor([t])).logits[0, -1] for p, t in rows]
    )


@pytest.mark.parametrize("cached", [True, False])
@torch.no_grad()
def test_rows_grow_by_the_tokens_that_they_are_fed(cached: bool) -> None:
    model = t5().double()
    start = EncodedStart.reading(PROMPTS, model, cached=cached)
    assert (start.token_AT.tolist(), start.length_A.tolist()) == ([[0], [0]], [1, 1])
    assert (start.cache, start.forced) == (None, None)
    assert (start.cross is not None) == cached
    torch.testing.assert_close(start.logits_AV, plain(model, [(0, [0]), (1, [0])]))
    store = EncodedStore(model)
    assert (store.refills, store.size_for(7, 8), store.size_for(8, 9)) == (False, 7, 9)
    picked = start.select(torch.tensor([1, 1, 0]))
    assert torch.equal(picked.logits_AV, start.logits_AV[[1, 1, 0]])
    store.fill(torch.arange(3), picked)
    after = store.feed(torch.tensor([20, 21, 22]), torch.zeros(3))
    torch.testing.assert_close(after, plain(model, [(1, [0, 20]), (1, [0, 21]), (0, [0, 22])]))
    store.keep(torch.tensor([2, 0]))
    after = store.feed(torch.tensor([30, 31]), torch.zeros(2))
    torch.testing.assert_close(after, plain(model, [(0, [0, 22, 30]), (1, [0, 20, 31])]))
    assert start.cross is None or start.cross.get_seq_length() == 1  # the rows that were selected have their own


@torch.no_grad()
def test_the_start_of_other_models() -> None:
    model = t5()
    model.generation_config.forced_bos_token_id = 7
    assert forced_token(model) == 7
    assert EncodedStart.reading(PROMPTS, model).select(torch.tensor([0])).forced == 7
    assert EncodedStart.reading(PROMPTS, model.to(torch.bfloat16)).logits_AV.dtype == torch.float32  # type: ignore[arg-type]  # its stubs
    cache = new_cross_cache(model)
    assert cache.self_attention_cache.layer_class_to_replicate is RoomyLayer
    assert cache.cross_attention_cache.layer_class_to_replicate is not RoomyLayer
