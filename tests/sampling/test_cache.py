"""Which models' caches can hold drafts, and what becomes of their rows and columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Cache, Lfm2Config, Lfm2ForCausalLM
from transformers.cache_utils import DynamicLayer

from support import tiny
from twofold.errors import DataError, ModelError
from twofold.sampling.cache import (
    GrowingStore,
    Prefilled,
    RoomyLayer,
    cache_argument,
    max_positions,
    new_cache,
    next_logits,
    own_columns,
    refillable,
    refuse_unfit,
)


def test_a_state_that_cannot_be_copied_is_refused() -> None:
    config = Lfm2Config(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"],
    )  # fmt: skip
    with pytest.raises(ModelError, match="cannot be copied from a prompt to its completions"):
        refillable(Lfm2ForCausalLM(config))


def states(rows: int, columns: int, first: int = 0) -> Tensor:
    """[A, 1, T, 1], numbered: row r, column c is 100·r + first + c."""
    column = torch.arange(first, first + columns)
    return (100 * torch.arange(rows)[:, None] + column).double()[:, None, :, None]


def seen(layer: RoomyLayer) -> list[list[int]]:
    assert layer.keys is not None
    assert layer.values is not None
    assert torch.equal(layer.values, -layer.keys)
    return layer.keys[:, 0, :, 0].long().tolist()


def grown(layer: RoomyLayer, rows: int, columns: int, first: int = 0) -> None:
    keys = states(rows, columns, first)
    shown = layer.update(keys, -keys)
    assert layer.keys is not None
    assert torch.equal(shown[0], layer.keys)


def test_a_roomy_layer_holds_what_was_written_and_copies_once_in_64_steps() -> None:
    """Two columns, then one at a time: room for 64 more, and then for a quarter of what is there or 64 again."""
    layer, places = RoomyLayer(), list[int]()
    grown(layer, 2, 2)
    for i in range(2, 70):
        grown(layer, 2, 1, i)
        places.append(layer._buffers[0].data_ptr())
    assert seen(layer) == [list(range(70)), list(range(100, 170))]
    assert places[:65] == [places[0]] * 65
    assert places[65:] == [places[65]] * 3 != [places[0]] * 3
    assert layer._buffers[0].shape[2] == 67 + 1 + 64
    wide = RoomyLayer()
    grown(wide, 1, 400)
    grown(wide, 1, 65, 400)
    assert wide._buffers[0].shape[2] == 400 + 65 + 100


def test_rows_of_a_roomy_layer_are_chosen_filled_and_forgotten() -> None:
    layer, other = RoomyLayer(), DynamicLayer()
    layer.batch_select_indices(torch.tensor([0]))  # of nothing, nothing
    grown(layer, 3, 4)
    layer.batch_select_indices(torch.tensor([2, 0, 2]))
    assert seen(layer) == [[200, 201, 202, 203], [0, 1, 2, 3], [200, 201, 202, 203]]
    layer.narrow(3)
    assert seen(layer) == [[201, 202, 203], [1, 2, 3], [201, 202, 203]]
    fresh = states(2, 2, 7)
    other.update(fresh, -fresh)
    layer.fill(torch.tensor([2, 1]), other)
    assert [row[-2:] for row in seen(layer)] == [[202, 203], [107, 108], [7, 8]]
    grown(layer, 3, 1, 50)
    assert [row[-2:] for row in seen(layer)] == [[203, 50], [108, 150], [8, 250]]
    assert len(seen(layer)[0]) == 4
    layer.reorder_cache(torch.tensor([1]))
    assert seen(layer) == [[1, 107, 108, 150]]
    layer.narrow(2)
    grown(layer, 1, 70, 0)  # whoever needs more room takes along only what is in view
    assert seen(layer) == [[108, 150, *range(70)]]


def test_finished_rows_leave_once_they_are_an_eighth() -> None:
    store = GrowingStore(tiny.llama(), refills=True)
    assert [store.size_for(live, 16) for live in (16, 15, 14, 1, 0)] == [16, 16, 14, 1, 0]
    assert [store.size_for(live, 8) for live in (8, 7)] == [8, 7]


def test_which_columns_are_a_rows_own() -> None:
    assert own_columns(torch.tensor([1, 3, 4]), 4).int().tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]]


def test_prompts_are_put_to_the_right_and_say_what_each_says_alone() -> None:
    model = tiny.llama().double()
    prompts = [torch.tensor([7, 8, 9]), torch.tensor([5])]
    both = Prefilled.of(prompts, model)
    assert (both.token_AT.tolist(), both.length_A.tolist()) == ([[7, 8, 9], [0, 0, 5]], [3, 1])
    for logits, prompt in zip(both.logits_AV, prompts, strict=True):
        alone = model(prompt[None]).logits[0, -1]
        torch.testing.assert_close(logits, alone, rtol=1e-9, atol=1e-9)
    again = both.select(torch.tensor([1, 1, 0]))
    assert (again.token_AT.tolist(), again.length_A.tolist()) == ([[0, 0, 5]] * 2 + [[7, 8, 9]], [1, 1, 3])
    assert torch.equal(again.logits_AV, both.logits_AV[[1, 1, 0]])
    assert again.cache is not both.cache
    assert both.cache is not None
    assert both.cache.layers[0].keys.shape[0] == 2
    bare = Prefilled(None, both.token_AT, both.length_A, both.logits_AV).select(torch.tensor([1]))
    assert (bare.cache, bare.token_AT.tolist(), bare.length_A.tolist()) == (None, [[0, 0, 5]], [1])
    assert torch.equal(bare.logits_AV, both.logits_AV[[1]])


def test_a_growing_store_goes_on_where_its_prompts_end() -> None:
    """Two prompts of different lengths, a token each; then one leaves, another takes a slot, and again a token each."""
    model = tiny.llama().double()
    prompts = [torch.tensor([7, 8, 9]), torch.tensor([5]), torch.tensor([4, 3])]
    store = GrowingStore(model, refills=True)
    store.fill(torch.arange(2), Prefilled.of(prompts[:2], model))
    live, position = torch.arange(2), torch.tensor([3, 1])
    store.settle(position, live)
    assert (store.width, store.padded) == (3, True)
    found = store.feed(torch.tensor([10, 11]), position)
    rows = [torch.tensor([7, 8, 9, 10]), torch.tensor([5, 11])]
    for logits, row in zip(found, rows, strict=True):
        torch.testing.assert_close(logits, model(row[None]).logits[0, -1], rtol=1e-9, atol=1e-9)
    store.fill(torch.tensor([0]), Prefilled.of(prompts[2:], model))
    position = torch.tensor([2, 2])
    store.settle(position, live)
    assert (store.width, store.padded) == (2, False)
    found = store.feed(torch.tensor([12, 13]), position)
    for logits, row in zip(found, ([4, 3, 12], [5, 11, 13]), strict=True):
        alone = model(torch.tensor([row])).logits[0, -1]
        torch.testing.assert_close(logits, alone, rtol=1e-9, atol=1e-9)
    store.keep(torch.tensor([1]))
    store.settle(torch.tensor([3]), torch.arange(1))
    assert store.cache is not None
    assert store.cache.layers[0].keys.shape[0] == 1
    found = store.feed(torch.tensor([14]), torch.tensor([3]))
    torch.testing.assert_close(found[0], model(torch.tensor([[5, 11, 13, 14]])).logits[0, -1], rtol=1e-9, atol=1e-9)


def test_logits_are_float32_at_least() -> None:
    for dtype, wide in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        model = tiny.llama().to(dtype)
        token = torch.tensor([[5, 6]])
        logits = next_logits(model, new_cache(model), token, torch.tensor([[0, 1]]), None)
        assert (logits.dtype, logits.shape) == (wide, (1, tiny.VOCABULARY))


def test_of_several_tokens_the_logits_behind_the_last_alone_are_computed() -> None:
    """Those of a whole prompt would take its length times the vocabulary."""
    model: Any = tiny.llama()
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda module, given, made: rows.append(made.shape[1]))
    next_logits(model, new_cache(model), torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 2]]), None)
    assert rows == [1]


def test_a_prompt_leaves_room_for_a_token_or_is_refused() -> None:
    assert max_positions(tiny.llama()) == 64
    refuse_unfit([torch.ones(1), torch.ones(63)], 64)
    with pytest.raises(DataError, match="64 prompt tokens; a prompt for this model has 1 to 63") as long:
        refuse_unfit([torch.ones(1), torch.ones(64)], 64)
    assert (long.value.where, long.value.remedy) == ("prompt 2 of 2", "shorten or drop this prompt")
    with pytest.raises(DataError, match="0 prompt tokens") as empty:
        refuse_unfit([torch.ones(0)], 64)
    assert empty.value.remedy == "give it at least one token"


def test_the_name_of_the_cache_among_the_arguments() -> None:
    def older(input_ids: Tensor, past_key_values: Cache | None = None) -> None: ...

    def newer(input_ids: Tensor, cache: Cache | None = None) -> None: ...

    assert (cache_argument(older), cache_argument(newer)) == ("past_key_values", "cache")
