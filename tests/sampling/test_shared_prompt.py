"""Completions that share their prompt's keys and values are those with a copy of the prompt each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.families import GEMMA, build
from twofold.models.attention import UnsupportedAttention
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.cache import Prefilled, new_cache
from twofold.sampling.local import LocalSampler
from twofold.sampling.shared_prompt import SharedStart, SharedStore, Sharing, SharingMask, shared_attention, why_copied

STOPS = range(0, tiny.VOCABULARY, 8)
SHARED: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "llama": tiny.llama,
    "gpt2": lambda: tiny.sharp(tr.GPT2LMHeadModel(tr.GPT2Config(**tiny.SPECIAL, n_embd=32, n_layer=2, n_head=4))),
    "olmo2": lambda: tiny.sharp(tr.Olmo2ForCausalLM(tr.Olmo2Config(**tiny.DECODER))),
}
COPIED: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "window": lambda: tiny.sharp(tr.MistralForCausalLM(tr.MistralConfig(**tiny.DECODER, sliding_window=6))),
    "softcap": lambda: build(tr.Gemma2ForCausalLM, tr.Gemma2Config, **GEMMA),
    "softcap without a window": lambda: build(
        tr.Gemma2ForCausalLM, tr.Gemma2Config, **GEMMA | {"layer_types": ["full_attention"] * 2}
    ),
    "alibi": lambda: tiny.sharp(
        tr.BloomForCausalLM(tr.BloomConfig(**tiny.SPECIAL, hidden_size=32, n_layer=2, n_head=4))
    ),
    "own attention": lambda: tiny.sharp(
        tr.CodeGenForCausalLM(tr.CodeGenConfig(**tiny.SPECIAL, n_embd=32, n_layer=2, n_head=4, rotary_dim=4))
    ),
}


def prompts(*lengths: int) -> list[Tensor]:
    return [group.prompt for group in tiny.groups(*((n, 1) for n in lengths))]


def draw(
    model: tr.PreTrainedModel, drive: Literal["auto", "cache"], size: int, **how: float
) -> tuple[list[Sample], bool]:
    """Five completions for each of four prompts, in order, and whether they shared their prompts."""
    settings = Sampling(max_new_tokens=14, batch_size=size, **how)
    sampler = LocalSampler(model, None, STOPS, settings, drive=drive)  # type: ignore[arg-type]  # no stop strings
    drawn = sampler.sample(prompts(20, 3, 9, 9), samples=5, seed=(1, 2))
    return [completion for some in drawn for completion in some], isinstance(sampler.store(), SharedStore)


@pytest.mark.parametrize("family", SHARED)
def test_completions_are_those_with_copies_to_12_digits(family: str) -> None:
    """Also where slots are refilled: with 6 slots, completions of several prompts begin and end at different times."""
    model = SHARED[family]().double()
    want, shared = draw(model, "cache", 6)
    assert not shared
    assert len({len(completion.tokens) for completion in want}) > 5
    for size in (6, 40):
        found, shared = draw(model, "auto", size)
        assert shared
        for a, b in zip(found, want, strict=True):
            assert torch.equal(a.tokens, b.tokens)
            torch.testing.assert_close(a.logp, b.logp, rtol=0, atol=1e-12)


def test_completions_in_float32_have_the_same_tokens() -> None:
    for how in ({}, {"temperature": 0.7, "top_p": 0.9}):
        (found, _), (want, _) = (draw(tiny.llama(), drive, 6, **how) for drive in ("auto", "cache"))
        assert [c.tokens.tolist() for c in found] == [c.tokens.tolist() for c in want]


@pytest.mark.parametrize("family", COPIED)
def test_models_of_other_attention_keep_their_copies(family: str) -> None:
    model = COPIED[family]()
    assert why_copied(model)
    assert not draw(model, "auto", 8)[1]


@pytest.mark.parametrize(("samples", "temperature", "shared"), [(1, 1.0, False), (2, 1.0, True), (2, 0.0, False)])
def test_one_completion_per_prompt_shares_nothing(samples: int, temperature: float, shared: bool) -> None:
    """At temperature 0 there is one, however many are asked for."""
    settings = Sampling(max_new_tokens=2, temperature=temperature)
    sampler = LocalSampler(tiny.llama(), None, STOPS, settings)  # type: ignore[arg-type]  # as above
    assert [len(row) for row in sampler.sample(prompts(4, 5), samples=samples)] == [samples] * 2
    assert isinstance(sampler.store(), SharedStore) == shared


def test_a_prompt_is_in_memory_once_and_rows_have_only_their_own_tokens() -> None:
    model = tiny.llama()
    start = SharedStart.reading(prompts(20, 7), model)
    rows = start.select(torch.tensor([0, 1, 0, 0]))
    assert rows.prompts[0] is rows.prompts[2] is rows.prompts[3]
    assert [[keys.shape[2] for keys, _ in prompt.layers] for prompt in start.prompts] == [[20, 20], [7, 7]]
    store = SharedStore(model)
    store.fill(torch.arange(4), rows)
    position_A = rows.length_A
    for _ in range(3):
        store.feed(torch.tensor([4, 5, 6, 7]), position_A)
        position_A = position_A + 1
    assert [tuple(layer.keys.shape[i] for i in (0, 2)) for layer in store.layers] == [(4, 3)] * 2
    store.keep(torch.tensor([3, 1]))
    assert store.prompts == [start.prompts[0], start.prompts[1]]
    store.fill(torch.tensor([0]), start.select(torch.tensor([1])))
    logits_AV = store.feed(torch.tensor([8, 9]), torch.tensor([7, 10]))
    second = prompts(20, 7)[1]
    for logits_V, own in zip(logits_AV, ([8], [5, 5, 5, 9]), strict=True):
        want_V = model(torch.cat([second, torch.tensor(own)])[None]).logits[0, -1]
        torch.testing.assert_close(logits_V, want_V, rtol=1e-4, atol=1e-4)
    assert store.layers[0].keys.shape[2] == 4


def test_prompts_of_similar_lengths_share_a_pass() -> None:
    """With at most 64 tokens of padding. Their order stays, and their logits are those of one pass over all."""
    model, some = tiny.llama().double(), prompts(40, 30, 20, 10, 3)
    start, want = SharedStart.reading(some, model), Prefilled.of(some, model)
    storages = [prompt.layers[0][0].untyped_storage().data_ptr() for prompt in start.prompts]
    assert [storages.index(s) for s in storages] == [0, 0, 0, 0, 4]  # 60 tokens of padding; 97 with the last
    assert torch.equal(start.token_AT, want.token_AT)
    assert torch.equal(start.length_A, want.length_A)
    torch.testing.assert_close(start.logits_AV, want.logits_AV, rtol=0, atol=1e-12)


def test_rows_are_ordered_by_prompt_if_they_are_not() -> None:
    one, two = SharedStart.reading(prompts(3, 3), tiny.llama()).prompts
    plain = Sharing.of([one, one, two])
    assert (plain.prompts, plain.sizes, plain.order_A) == ([one, two], [2, 1], None)
    mixed = Sharing.of([two, one, two])
    assert (mixed.prompts, mixed.sizes) == ([two, one], [2, 1])
    assert mixed.order_A is not None
    assert mixed.inverse_A is not None
    assert (mixed.order_A.tolist(), mixed.inverse_A.tolist()) == ([0, 2, 1], [0, 2, 1])


@pytest.mark.parametrize("asked", [{"softcap": 30.0}, {"sliding_window": 4}, {"s_aux": torch.ones(4)}])
def test_what_changes_scores_is_refused(asked: dict[str, object]) -> None:
    model = tiny.llama()
    query, mask = torch.ones(1, 4, 1, 8), SharingMask.of(SharedStore(model))
    module = model.model.layers[0].self_attn
    with pytest.raises(UnsupportedAttention, match=next(iter(asked))):
        shared_attention(module, query, query, query, mask, **asked)
    with pytest.raises(UnsupportedAttention, match="mask"):
        shared_attention(module, query, query, query, None)


def test_a_prompt_is_cached_without_room_to_grow() -> None:
    model = tiny.llama()
    cache = new_cache(model)
    model(torch.tensor([[5, 6, 7]]), past_key_values=cache)
    assert cache.layers[0].keys.untyped_storage().nbytes() == cache.layers[0].keys.numel() * 4
