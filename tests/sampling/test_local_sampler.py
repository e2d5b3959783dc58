from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from scipy.stats import chisquare
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from twofold.errors import DataError
from twofold.sampling import cache
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.local import LocalSampler
from twofold.sampling.logits_processor import LogitsProcessor

VOCABULARY = 32
SIZES = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
ROPE = {**SIZES, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**ROPE, num_key_value_heads=2, max_position_embeddings=64))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(
        MistralConfig(**ROPE, num_key_value_heads=2, sliding_window=6, max_position_embeddings=64)
    )


FAMILIES = [llama, gpt2, mistral]


def sharp(model: PreTrainedModel) -> PreTrainedModel:
    """Weights large enough that what was said before matters to what comes next."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    return model.eval()


@pytest.fixture(params=FAMILIES, ids=lambda family: family.__name__)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(3)
    return sharp(request.param())


@pytest.fixture
def tiny() -> PreTrainedModel:
    torch.manual_seed(5)
    return sharp(llama())


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Token i is the i-th letter, so that a stop text can end within or between tokens; 30 and 31 are two letters."""
    words = {**{chr(97 + i): i for i in range(26)}, "A": 26, "B": 27, "C": 28, "D": 29, "xy": 30, "yz": 31}
    plain = Tokenizer(WordLevel(words, unk_token="a"))
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


def prompts(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (n,), generator=generator) for n in lengths]


def draw(
    model: PreTrainedModel, asked: Sequence[Tensor], stop_tokens: Sequence[int] = (), **options: object
) -> list[list[Sample]]:
    """Drafts under `options`: those of `sample`, and otherwise settings."""
    call = {name: options.pop(name) for name in ("samples", "seed", "tokenizer") if name in options}
    sampler = LocalSampler(
        model, call.pop("tokenizer", None), stop_tokens, Sampling(**{"max_new_tokens": 12, **options})
    )
    return sampler.sample(asked, **call)


def ids(drafts: list[list[Sample]]) -> list[list[list[int]]]:
    return [[draft.tokens.tolist() for draft in some] for some in drafts]


def full_logp(model: PreTrainedModel, prompt: Tensor, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(torch.cat([prompt, tokens])[None]).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_logp_is_that_of_one_plain_forward_per_draft(
    model: PreTrainedModel, dtype: torch.dtype, tolerance: float
) -> None:
    model.to(dtype)
    asked = prompts(3, 9, 1, 6)
    stop = (4, 5)
    drafts = draw(model, asked, stop, samples=5, temperature=0.8, top_k=20, max_new_tokens=24)
    assert len({len(d.tokens) for some in drafts for d in some}) > 3, "rows must leave the cache at different times"
    for prompt, some in zip(asked, drafts, strict=True):
        for draft in some:
            assert draft.logp.dtype == dtype
            torch.testing.assert_close(draft.logp, full_logp(model, prompt, draft.tokens), atol=tolerance, rtol=0)
            assert draft.truncated == (draft.tokens[-1].item() not in stop)
            assert not set(draft.tokens[:-1].tolist()) & set(stop)


@pytest.mark.parametrize("drop", [1, 10**9])
def test_drafts_do_not_depend_on_the_batch_or_on_when_rows_leave_it(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, drop: int
) -> None:
    model.double()
    asked = prompts(3, 9, 1, 6, 6)
    want = ids(draw(model, asked, (4,), samples=4, seed=(7, 3)))
    monkeypatch.setattr(cache, "DROP", drop)
    for size in (1, 3, 7, 100):
        assert ids(draw(model, asked, (4,), samples=4, seed=(7, 3), batch_size=size)) == want
    assert ids(draw(model, asked[::-1], (4,), samples=4, seed=(7, 3)))[::-1] == want
    assert [some[:2] for some in want] == ids(draw(model, asked, (4,), samples=2, seed=(7, 3)))
    assert ids(draw(model, asked[1:2], (4,), samples=4, seed=(7, 3))) == want[1:2]


def test_noise_differs_between_samples_steps_seeds_and_prompts_only(tiny: PreTrainedModel) -> None:
    asked = prompts(4)
    first = ids(draw(tiny, asked, samples=6, seed=(1, 1)))[0]
    assert len({tuple(tokens) for tokens in first}) == 6
    assert ids(draw(tiny, asked, samples=6, seed=(1, 2)))[0] != first
    assert ids(draw(tiny, asked, samples=6, seed=(2, 1)))[0] != first
    assert ids(draw(tiny, [asked[0], asked[0].clone()], samples=6, seed=(1, 1))) == [first, first]


def test_global_random_state_is_neither_read_nor_moved(tiny: PreTrainedModel) -> None:
    asked = prompts(4, 5)
    torch.manual_seed(1)
    want, state = ids(draw(tiny, asked)), torch.get_rng_state()
    torch.manual_seed(2)
    assert ids(draw(tiny, asked)) == want
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_temperature_zero_is_transformers_greedy_search(model: PreTrainedModel) -> None:
    asked = prompts(5, 2, 8)
    drafts = draw(model, asked, (4, 9), temperature=0.0, samples=3, max_new_tokens=20)
    for prompt, some in zip(asked, drafts, strict=True):
        want = model.generate(
            prompt[None],
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=[4, 9],
            pad_token_id=0,
        )
        assert [d.tokens.tolist() for d in some] == [want[0, len(prompt) :].tolist()] * 3


def next_tokens(model: PreTrainedModel, count: int, **options: object) -> tuple[Tensor, Tensor]:
    """How often each token follows one prompt in `count` draws, and the model's logits there."""
    prompt = prompts(4)[0]
    drafts = draw(model, [prompt], samples=count, max_new_tokens=1, batch_size=4096, **options)[0]
    with torch.no_grad():
        logits = model(prompt[None]).logits[0, -1]
    return torch.bincount(torch.cat([d.tokens for d in drafts]), minlength=VOCABULARY), logits


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_frequencies_are_the_softmax_at_the_temperature(tiny: PreTrainedModel, temperature: float) -> None:
    count, logits = next_tokens(tiny, 8000, temperature=temperature)
    expected = (logits.double() / temperature).softmax(0).numpy() * 8000
    often = expected >= 5
    observed = [*count.numpy()[often], count.numpy()[~often].sum() + 1e-9]
    assert chisquare(observed, [*expected[often], expected[~often].sum() + 1e-9], sum_check=False).pvalue > 1e-3
    other = (logits.double() / (1.5 * temperature)).softmax(0).numpy() * 8000
    assert chisquare(count.numpy(), other, sum_check=False).pvalue < 1e-6


def test_top_k_draws_from_exactly_the_k_best(tiny: PreTrainedModel) -> None:
    count, logits = next_tokens(tiny, 3000, top_k=3)
    assert set(count.nonzero().squeeze(1).tolist()) == set(logits.topk(3).indices.tolist())
    expected = logits.topk(3).values.double().softmax(0).numpy() * 3000
    assert chisquare(count[logits.topk(3).indices].numpy(), expected).pvalue > 1e-3


def test_top_p_draws_from_exactly_the_smallest_set(tiny: PreTrainedModel) -> None:
    count, logits = next_tokens(tiny, 3000, top_p=0.6)
    probability, index = logits.double().softmax(0).sort(descending=True)
    size = int((probability.cumsum(0) < 0.6).sum()) + 1
    assert 1 < size < VOCABULARY // 2
    assert set(count.nonzero().squeeze(1).tolist()) == set(index[:size].tolist())


def test_generation_config_counts_only_when_asked_for(tiny: PreTrainedModel) -> None:
    asked = prompts(4, 6)
    want = ids(draw(tiny, asked, samples=4))
    tiny.generation_config.update(temperature=0.3, top_k=2, top_p=0.5, repetition_penalty=1.7, do_sample=True)
    assert ids(draw(tiny, asked, samples=4)) == want
    assert LogitsProcessor.of(Sampling(use_generation_config=True, top_k=7), tiny) == LogitsProcessor(0.3, 2, 0.5, 1.7)
    got = ids(draw(tiny, asked, samples=4, use_generation_config=True))
    assert got != want
    tiny.generation_config.repetition_penalty = None
    assert ids(draw(tiny, asked, samples=4, temperature=0.3, top_k=2, top_p=0.5)) == ids(
        draw(tiny, asked, samples=4, use_generation_config=True)
    )
    tiny.generation_config.temperature = tiny.generation_config.top_k = tiny.generation_config.top_p = None
    assert ids(draw(tiny, asked, samples=4, use_generation_config=True)) == want


def test_repetition_penalty_is_that_of_transformers(model: PreTrainedModel) -> None:
    asked = prompts(*range(1, 13))
    plain = ids(draw(model, asked, temperature=0.0, max_new_tokens=20))
    model.generation_config.update(repetition_penalty=1.8)
    drafts = draw(model, asked, (9,), temperature=0.0, use_generation_config=True, max_new_tokens=20)
    for prompt, (draft,) in zip(asked, drafts, strict=True):
        want = model.generate(
            prompt[None],
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=9,
            pad_token_id=0,
        )
        assert draft.tokens.tolist() == want[0, len(prompt) :].tolist()
        torch.testing.assert_close(draft.logp, full_logp(model, prompt, draft.tokens), atol=1e-4, rtol=0)
    assert ids(drafts) != plain


def test_max_new_tokens_truncates_and_a_stop_token_in_the_last_place_does_not(tiny: PreTrainedModel) -> None:
    asked = prompts(4)
    (long,) = draw(tiny, asked, max_new_tokens=10)[0]
    assert (len(long.tokens), long.truncated) == (10, True)
    cut = next(n for n in range(2, 10) if long.tokens[n] not in long.tokens[:n])
    (stopped,) = draw(tiny, asked, (int(long.tokens[cut]),), max_new_tokens=cut + 1)[0]
    assert (stopped.tokens.tolist(), stopped.truncated) == (long.tokens[: cut + 1].tolist(), False)
    (short,) = draw(tiny, asked, (int(long.tokens[cut]),), max_new_tokens=cut)[0]
    assert (short.tokens.tolist(), short.truncated) == (long.tokens[:cut].tolist(), True)


def test_drafts_end_with_the_models_positions(model: PreTrainedModel) -> None:
    asked = prompts(60, 63, 20)
    drafts = draw(model, asked, samples=2, max_new_tokens=30)
    assert [[(len(d.tokens), d.truncated) for d in some] for some in drafts] == [
        [(4, True)] * 2,
        [(1, True)] * 2,
        [(30, True)] * 2,
    ]
    with pytest.raises(DataError, match=r"prompt 2 of 2: 64 prompt tokens; a prompt for this model has 1 to 63"):
        draw(model, [asked[0], *prompts(64)])
    with pytest.raises(DataError, match="at least one token"):
        draw(model, prompts(0))


def test_a_row_that_met_its_limit_may_stay_in_the_cache(model: PreTrainedModel) -> None:
    asked = prompts(63, *[3] * 29)
    stop_tokens = (1, 2)
    for step in range(8):
        drafts = draw(model, asked, stop_tokens, seed=(0, step), max_new_tokens=10)
        for (draft,) in drafts:
            assert draft.truncated == (draft.tokens[-1].item() not in stop_tokens)
        assert len(drafts[0][0].tokens) == 1
    draw(model, asked, max_new_tokens=10)


def test_stop_texts_cut_after_the_token_that_completes_them(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    asked = prompts(4, 7, 3)
    free = draw(tiny, asked, samples=8, max_new_tokens=40)
    letters = [[tokenizer.decode(d.tokens) for d in some] for some in free]
    stop = (letters[0][0][11:13], letters[1][0][20:23], letters[2][1][4])
    for options in ({}, {"batch_size": 5}):
        got = draw(tiny, asked, samples=8, max_new_tokens=40, stop=stop, tokenizer=tokenizer, **options)
        for some, before in zip(got, free, strict=True):
            for draft, longer in zip(some, before, strict=True):
                ends = (n for n in range(1, 41) if any(text in tokenizer.decode(longer.tokens[:n]) for text in stop))
                end = next(ends, None)
                assert draft.tokens.tolist() == longer.tokens[:end].tolist()
                assert draft.truncated == (end is None)
                assert len(draft.logp) == len(draft.tokens)


def test_whichever_of_stop_text_and_stop_token_comes_first_ends_the_draft(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    asked = prompts(4)
    (free,) = draw(tiny, asked, max_new_tokens=30)[0]
    fresh = [n for n in range(30) if free.tokens[n] not in free.tokens[:n]][3:6]
    early, _, late = (int(free.tokens[n]) for n in fresh)
    for token, text in ((early, late), (late, early)):
        (got,) = draw(tiny, asked, (token,), stop=(tokenizer.decode([text]),), tokenizer=tokenizer, max_new_tokens=30)[
            0
        ]
        assert (len(got.tokens), got.truncated) == (fresh[0] + 1, False)


def test_each_prompt_is_prefilled_once_and_finished_rows_leave(tiny: PreTrainedModel) -> None:
    shapes: list[tuple[int, int]] = []
    hook = tiny.register_forward_pre_hook(
        lambda _m, _a, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    draw(tiny, [*prompts(4, 6, 5), *prompts(4)], (3, 4, 5, 6), samples=20, batch_size=60, max_new_tokens=40)
    hook.remove()
    assert shapes[0] == (3, 6)
    assert shapes[1] == (60, 1)
    rows = [rows for rows, _ in shapes[1:]]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < 8


def test_the_model_is_left_as_it_was_and_drafts_can_be_trained_on(tiny: PreTrainedModel) -> None:
    tiny.train()
    tiny.model.layers[0].eval()
    attention = tiny.config._attn_implementation
    tiny.model.layers[1].self_attn.attention_dropout = 0.9
    (draft,) = draw(tiny, prompts(4))[0]
    assert tiny.training
    assert not tiny.model.layers[0].training
    assert tiny.model.layers[1].training
    assert tiny.config._attn_implementation == attention
    tiny.eval()
    torch.testing.assert_close(draft.logp, full_logp(tiny, prompts(4)[0], draft.tokens), atol=1e-4, rtol=0)
    weight = torch.ones(12, requires_grad=True)
    (weight * draft.logp).sum().backward()
    torch.testing.assert_close(weight.grad, draft.logp)


def test_bfloat16_models_report_float32_logp(tiny: PreTrainedModel) -> None:
    (draft,) = draw(tiny.bfloat16(), prompts(4))[0]
    assert draft.logp.dtype == torch.float32
    assert draft.tokens.dtype == torch.int64
    assert bool((draft.logp < 0).all())


def forwards(
    model: PreTrainedModel, asked: Sequence[Tensor], **options: object
) -> tuple[list[list[Sample]], list[int]]:
    """The drafts, and the rows of every forward pass: negative for prompts."""
    rows: list[int] = []

    def note(_module: object, _arguments: object, given: dict[str, Tensor]) -> None:
        num, columns = given["input_ids"].shape
        rows.append(num if columns == 1 else -num)

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    drafts = draw(model, asked, (3, 4), **options)
    hook.remove()
    return drafts, rows


def test_slots_are_taken_as_soon_as_drafts_finish(tiny: PreTrainedModel) -> None:
    asked = prompts(*[9, 4, 6, 2, 7, 5, 3, 8, 11, 10])
    drafts, rows = forwards(tiny, asked, samples=6, batch_size=16, max_new_tokens=40)
    lengths = [len(d.tokens) for some in drafts for d in some]
    assert max(lengths) > 3 * sum(lengths) / len(lengths)
    assert -sum(n for n in rows if n < 0) == len(asked), "each prompt is prefilled once"
    decoded = [n for n in rows if n > 0]
    busy = max(i for i, n in enumerate(rows) if n < 0)
    assert {n for n in rows[:busy] if n > 0} == {16}, "nothing leaves while something waits"
    assert decoded == sorted(decoded, reverse=True)
    needed = sum(lengths) - len(lengths)
    assert needed <= sum(decoded) <= 1.15 * needed


def test_columns_that_no_draft_needs_are_forgotten(tiny: PreTrainedModel) -> None:
    widths: list[int] = []
    hook = tiny.register_forward_pre_hook(
        lambda _m, _a, given: widths.append(given[cache.cache_argument(type(tiny).forward)].get_seq_length()),
        with_kwargs=True,
    )
    drafts = draw(tiny, prompts(*[5] * 60), (3, 4, 5, 6), batch_size=4, max_new_tokens=30)
    hook.remove()
    assert len(widths) > 3 * 30, "without forgetting, the cache would be as wide as there were steps"
    assert max(widths) < 5 + max(len(d.tokens) for (d,) in drafts)


def test_a_window_keeps_others_from_taking_a_slot() -> None:
    window, plain = (LocalSampler(sharp(make()), None, (), Sampling()) for make in (mistral, llama))
    assert "no completion takes the slot of a finished one" in window.note
    assert plain.note == ""
    _, rows = forwards(window.model, prompts(5, 4, 6, 3), samples=4, batch_size=8, max_new_tokens=20)
    assert [n for n in rows if n < 0] == [-2, -2]
    second = rows.index(-2, 1)
    assert rows[1] > rows[second - 1] < rows[second + 1]
