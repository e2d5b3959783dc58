"""A static cache's rows and columns by value: which of them a step sees, and where things lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.sampling.base import Sampling
from twofold.sampling.cache import Prefilled, own_columns
from twofold.sampling.local import LocalSampler
from twofold.sampling.static import Frame, SlotLayer, StaticStore, Unfit, Windows, addresses, buckets


def mistral(window: int = 6) -> tr.PreTrainedModel:
    return tiny.sharp(tr.MistralForCausalLM(tr.MistralConfig(**tiny.DECODER, sliding_window=window)))


def test_a_step_sees_a_bucket_of_rows_and_a_rung_of_columns() -> None:
    store = StaticStore(tiny.llama(), 20, 100, 8)
    assert (store.columns, store.sizes, store.key) == (128, [8, 16, 20], (20, 128))
    assert [store.size_for(live, 20) for live in (0, 1, 8, 9, 16, 17, 20)] == [0, 8, 8, 16, 16, 20, 20]
    assert [store.size_for(live, 8) for live in (0, 3, 8)] == [0, 8, 8]
    position = torch.tensor([3, 60, 10])
    for live, key in (([0, 2], (3, 64)), ([1], (3, 128)), ([], (3, 64))):
        store.settle(position, torch.tensor(live, dtype=torch.int64))
        assert store.key == key
    for furthest, width in ((54, 64), (55, 64), (56, 128), (120, 128)):  # with eight more columns before the next look
        store.settle(torch.tensor([furthest]), torch.tensor([0]))
        assert store.key == (1, width)


def test_buckets_double_up_to_all_slots() -> None:
    assert [buckets(n) for n in (1, 8, 9, 16, 17, 33)] == [[1], [8], [8, 9], [8, 16], [8, 16, 17], [8, 16, 32, 33]]


def test_what_a_layer_says_of_itself() -> None:
    layer = SlotLayer(Frame(torch.arange(3), torch.zeros(3, dtype=torch.int64), 2, 5), 9)
    assert (layer.is_sliding, layer.get_mask_sizes(1), layer.get_seq_length(), layer.get_max_length()) == (
        False, (5, 0), 0, 9,
    )  # fmt: skip
    assert (Frame(torch.arange(3), torch.arange(3)).size, Frame(torch.arange(3), torch.arange(3)).width) == (0, 0)


def test_a_step_writes_one_column_of_each_row_in_view() -> None:
    frame = Frame(torch.arange(3), torch.tensor([4, 1, 0]), 2, 5)
    layer = SlotLayer(frame, 6)
    keys = torch.tensor([7.0, 8.0])[:, None, None, None]
    layer.lazy_initialization(keys, -keys)
    assert layer.is_initialized
    assert layer.keys is not None
    assert layer.keys.shape == (3, 1, 6, 1)
    seen, values = layer.update(keys, -keys)
    assert seen[:, 0, :, 0].tolist() == [[0, 0, 0, 0, 7], [0, 8, 0, 0, 0]]
    assert torch.equal(values, -seen)
    assert layer.keys[2].abs().sum() == 0
    layer.keep(torch.tensor([1]))
    assert layer.keys[:2, 0, :, 0].tolist() == [[0, 8, 0, 0, 0, 0], [0, 8, 0, 0, 0, 0]]


def test_a_prompt_lies_to_the_left_and_beyond_a_window_nothing_is_kept() -> None:
    """Of seven tokens under a window of 4, the cache keeps three: they lie in their own columns."""
    model = mistral(4).double()
    prompt = torch.tensor([7, 8, 9, 10, 11, 12, 13])
    start = Prefilled.of([prompt], model)
    assert start.cache is not None
    kept = start.cache.layers[0].keys
    store = StaticStore(model, 2, 16, 4)
    store.fill(torch.tensor([1]), start)
    own = store.layers[0].keys
    assert own is not None
    num = kept.shape[-2]
    assert num < 7
    torch.testing.assert_close(own[1, :, 7 - num : 7], kept[0])
    assert own[0].abs().sum() == 0
    assert own[1, :, 7:].abs().sum() == 0


def test_windows_of_models() -> None:
    assert Windows.of(tiny.llama()).by_kind == {"full_attention": None}
    assert Windows.of(mistral(5)).by_kind == {"sliding_attention": 5}
    other = tiny.llama()
    other.config.layer_types = ["full_attention", "chunked_attention"]
    other.config.attention_chunk_size = 4
    with pytest.raises(Unfit, match="layers of chunked_attention"):
        Windows.of(other)


def test_masks_for_several_kinds_or_one() -> None:
    position = torch.tensor([2])
    both = Windows({"full_attention": None, "sliding_attention": 2}).masks(position, 4, torch.float32)
    assert isinstance(both, dict)
    least = torch.finfo(torch.float32).min
    assert both["full_attention"].flatten().tolist() == [0, 0, 0, least]
    assert both["sliding_attention"].flatten().tolist() == [least, 0, 0, least]
    assert both["full_attention"].shape == (1, 1, 1, 4)
    alone = Windows({"sliding_attention": 1}).masks(position, 4, None)
    assert isinstance(alone, torch.Tensor)
    assert alone.flatten().tolist() == [False, False, True, False]


def test_addresses_move_with_the_weights() -> None:
    model = tiny.llama()
    before = addresses(model)
    assert len(before) == len([*model.parameters(), *model.buffers()])
    assert addresses(model) == before
    with torch.no_grad():
        model.lm_head.weight.data = model.lm_head.weight.clone()
    assert addresses(model) != before


def prefills(draws: int, slots: int, prompts: int, model: Any = None) -> tuple[list[int], int]:
    """How many prompts each prefill takes, and how many rows the first step has."""
    model, shapes = model or tiny.llama(), list[tuple[int, int]]()
    hook = model.register_forward_pre_hook(
        lambda _m, _a, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    asked = [torch.tensor([7, 8, 9, 1 + i]) for i in range(prompts)]
    sampler = LocalSampler(model, tiny.tokenizer(), range(0, 61, 3), Sampling(max_new_tokens=9, batch_size=slots))
    shapes.clear()
    sampler.sample(asked, samples=draws)
    hook.remove()
    whole = [rows for rows, columns in shapes if columns == 4]
    return whole, next((rows for rows, columns in shapes if columns == 1), 0)


@pytest.mark.parametrize(
    ("draws", "slots", "prompts", "first", "later"),
    [(2, 16, 12, 8, 1), (3, 16, 12, 6, 1), (1, 16, 30, 16, 2), (1, 32, 60, 32, 4), (5, 4, 3, 1, 1), (1, 7, 9, 7, 1)],
)
def test_prompts_are_prefilled_for_all_slots_and_then_for_an_eighth_of_them(
    draws: int, slots: int, prompts: int, first: int, later: int
) -> None:
    whole, rows = prefills(draws, slots, prompts)
    assert (whole[0], set(whole[1:-1]) <= {later}, whole[-1] <= max(first, later)) == (first, True, True)
    assert sum(whole) == prompts
    assert rows == min(slots, draws * first)


def test_under_a_window_whole_groups_are_drawn_one_after_the_other() -> None:
    """As many prompts as have room for all of their drafts, and one at least."""
    model = mistral()
    assert prefills(3, 16, 12, model)[0] == [5, 5, 2]
    assert prefills(5, 4, 3, model)[0] == [1, 1, 1]


def test_rows_and_masks_are_made_where_the_model_is() -> None:
    """It lies elsewhere than tensors do by default: whatever is made without a device does not fit."""
    model, prompts = tiny.llama().double(), [torch.tensor([7, 8, 9]), torch.tensor([5])]
    slot, token, position = torch.arange(2), torch.tensor([10, 11]), torch.tensor([3, 1])
    start = Prefilled.of(prompts, model)
    with torch.device("meta"):
        store = StaticStore(model, 2, 16, 4)
        store.fill(slot, start)
        store.settle(position, slot)
        masks = Windows({"full_attention": None, "sliding_attention": 2}).masks(position, 4, torch.float64)
        own = own_columns(position, 4)
    assert {x.device.type for x in (*masks.values(), own, store.frame.row_A)} == {"cpu"}
    found = store.feed(token, position)
    torch.testing.assert_close(found[1], model(torch.tensor([[5, 11]])).logits[0, -1], rtol=1e-9, atol=1e-9)


def test_what_is_done_writes_into_the_last_column_in_view() -> None:
    model, prompts = tiny.llama().double(), [torch.tensor([7, 8, 9]), torch.tensor([5])]
    store, token = StaticStore(model, 2, 100, 4), torch.tensor([10, 11])
    store.fill(torch.arange(2), Prefilled.of(prompts, model))
    store.settle(torch.tensor([70, 1]), torch.tensor([1]))
    assert store.key == (2, 64)
    found = store.feed(token, torch.tensor([70, 1]))
    assert store.frame.column_A.tolist() == [63, 1]
    torch.testing.assert_close(found[1], model(torch.tensor([[5, 11]])).logits[0, -1], rtol=1e-9, atol=1e-9)
