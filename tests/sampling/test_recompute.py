"""Drafts of models whose cache cannot be driven; logits that are no numbers; what a generation_config asks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.architectures import BY_LENGTH, SWITCH, UNCACHED
from support.families import GEMMA, build
from twofold.errors import NonFiniteError, RecipeError
from twofold.models.attention import stock_attention
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.local import LocalSampler
from twofold.sampling.logits_processor import LogitsProcessor

PADDED = {
    "gemma2": lambda: build(tr.Gemma2ForCausalLM, tr.Gemma2Config, **GEMMA),
    "vaultgemma": lambda: build(tr.VaultGemmaForCausalLM, tr.VaultGemmaConfig, **GEMMA),
    "bloom": lambda: tiny.sharp(
        tr.BloomForCausalLM(tr.BloomConfig(**tiny.SPECIAL, hidden_size=32, n_layer=2, n_head=4))
    ),
    "mpt": lambda: tiny.sharp(tr.MptForCausalLM(tr.MptConfig(vocab_size=61, d_model=32, n_layers=2, n_heads=4))),
}
"""Whose attention says NaN of padding to the left, in float64."""
WHOLE_ROWS = "completions are computed as whole rows"


def prompts(*lengths: int) -> list[Tensor]:
    return [g.prompt for g in tiny.groups(*((n, 1) for n in lengths))]


def assert_step_by_step(make: Callable[[], tr.PreTrainedModel], prompt: Tensor, draft: Sample) -> None:
    """Every token has the log-probability that one row of what came before gives it, in a model that is fresh."""
    for i, (token, logp) in enumerate(zip(draft.tokens, draft.logp, strict=True)):
        model = make().to(draft.logp.dtype)
        with torch.no_grad(), stock_attention(model):
            logits = model(input_ids=torch.cat([prompt, draft.tokens[:i]])[None], use_cache=False).logits[0, -1]
        torch.testing.assert_close(logp, logits.log_softmax(-1)[token], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", PADDED)
def test_drafts_in_float64_are_those_of_each_prompt_alone(family: str) -> None:
    model, asked = PADDED[family]().double(), prompts(20, 5, 9, 1)
    sampler = LocalSampler(model, None, [2], Sampling(temperature=0.0, max_new_tokens=8, batch_size=8))
    for prompt, (draft,) in zip(asked, sampler.sample(asked), strict=True):
        ((alone,),) = sampler.sample([prompt])
        assert torch.equal(draft.tokens, alone.tokens)
        assert_step_by_step(PADDED[family], prompt, draft)


@pytest.mark.parametrize("family", UNCACHED)
def test_a_model_without_a_cache_draws_from_whole_rows_and_says_so_once(family: str) -> None:
    heard: list[str] = []
    how = Sampling(max_new_tokens=6, batch_size=4)
    model, asked = UNCACHED[family](), prompts(9, 4, 1)
    sampler = LocalSampler(model, None, [2, 7], how, heard.append)
    drafts = sampler.sample(asked, samples=3)
    for prompt, some in zip(asked, drafts, strict=True):
        for draft in some:
            assert_step_by_step(lambda: model, prompt, draft)
    sampler.sample(asked)
    assert [WHOLE_ROWS in text for text in heard] == [True]
    assert WHOLE_ROWS in sampler.note


def test_a_model_with_a_cache_uses_it_and_says_nothing() -> None:
    heard: list[str] = []
    sampler = LocalSampler(tiny.llama(), None, [2], Sampling(max_new_tokens=6), heard.append)
    sampler.sample(prompts(9, 4))
    assert (heard, sampler.note) == ([], "")


@pytest.mark.parametrize(("lengths", "whole"), [((5, 2), False), ((SWITCH - 3, 5), True), ((SWITCH + 4, 40), False)])
def test_drafts_that_cross_a_factor_switch_are_computed_as_whole_rows(lengths: tuple[int, ...], whole: bool) -> None:
    """Short and long factors: on either side of the switch the cache is right, across it no cached key is."""
    heard: list[str] = []
    sampler = LocalSampler(BY_LENGTH["phi3"](), None, [2], Sampling(max_new_tokens=9), heard.append)
    asked = prompts(*lengths)
    for prompt, (draft,) in zip(asked, sampler.sample(asked), strict=True):
        assert_step_by_step(BY_LENGTH["phi3"], prompt, draft)
    assert bool(heard) == whole


def test_beams_of_a_model_without_a_cache() -> None:
    make = UNCACHED["openai-gpt"]
    (found,) = BeamSearch(make(), [2], Beams(width=3, max_new_tokens=5)).search(prompts(6))
    for result in found:
        assert_step_by_step(make, prompts(6)[0], result.completion)
        assert result.score == pytest.approx(float(result.completion.logp.sum()), abs=1e-5)


def broken(row: int) -> tr.PreTrainedModel:
    """NaN in what it makes of the token `row`."""
    model = tiny.llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[row] = torch.nan  # type: ignore[index]  # an nn.Embedding
    return model


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_in_the_name_of_the_prompt(temperature: float) -> None:
    sampler = LocalSampler(broken(60), None, [2], Sampling(temperature=temperature, max_new_tokens=1))
    fine, bad = torch.tensor([1, 4]), torch.tensor([3, 60, 5])
    assert sampler.sample([fine])[0][0].logp.isfinite().all()
    with pytest.raises(NonFiniteError, match="prompt 2 of 3: the model's logits are not finite at token 1") as caught:
        sampler.sample([fine, bad, fine])
    assert "precision" in caught.value.remedy
    with pytest.raises(NonFiniteError, match="not finite at token 1"):
        BeamSearch(broken(60), [2], Beams(max_new_tokens=4)).search([bad])


def asking(**settings: object) -> tr.PreTrainedModel:
    model = tiny.llama()
    model.generation_config = tr.GenerationConfig(**settings)
    return model


OWN = Sampling(use_generation_config=True, max_new_tokens=3)


def test_a_generation_config_that_does_not_sample_is_greedy() -> None:
    (some,) = LocalSampler(asking(do_sample=False), None, [2], OWN).sample(prompts(4), samples=20)
    (greedy,) = LocalSampler(tiny.llama(), None, [2], Sampling(temperature=0, max_new_tokens=3)).sample(prompts(4))
    assert {tuple(d.tokens.tolist()) for d in some} == {tuple(greedy[0].tokens.tolist())}
    (some,) = LocalSampler(asking(do_sample=True), None, [2], OWN).sample(prompts(4), samples=20)
    assert len({tuple(d.tokens.tolist()) for d in some}) > 1


def test_min_p_of_a_generation_config_by_value() -> None:
    """0.6 of the best one's probability at least: 0.4 and 0.3 stay, 0.2 and 0.1 go."""
    rule = LogitsProcessor.of(OWN, asking(min_p=0.6))
    assert rule.min_p == 0.6
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log().expand(200, -1)
    tokens, logp = rule.draw(logits, None, torch.linspace(0, 1 - 1e-9, 200, dtype=torch.float64))
    assert set(tokens.tolist()) == {1, 3}
    assert (tokens == 1).double().mean() == pytest.approx(4 / 7, abs=0.01)
    assert sorted({round(p, 5) for p in logp.exp().tolist()}) == [0.3, 0.4]


@pytest.mark.parametrize(
    ("setting", "value"), [("num_beams", 4), ("no_repeat_ngram_size", 3), ("typical_p", 0.9), ("suppress_tokens", [3])]
)
def test_what_drafts_do_not_follow_is_refused_by_its_name(setting: str, value: object) -> None:
    model = asking(**{setting: value})
    with pytest.raises(RecipeError, match=f"{setting}: ") as caught:
        LocalSampler(model, None, [2], OWN)
    assert caught.value.where == "sampling.use_generation_config"
    LocalSampler(model, None, [2], Sampling())


def test_neutral_values_ask_for_nothing() -> None:
    model = asking(num_beams=1, typical_p=1.0, no_repeat_ngram_size=0, min_length=0, repetition_penalty=1.3)
    assert LogitsProcessor.of(OWN, model).penalty == 1.3
