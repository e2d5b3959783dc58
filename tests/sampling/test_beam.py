"""Beam search compares sums of log-probabilities: that of `generate` with length_penalty 0, exact where it is wide."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from support import tiny
from support.golden import expected, given
from twofold.errors import DataError, ModelError
from twofold.sampling.base import Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.local import LocalSampler

NONE = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def random(seed: int, vocabulary: int = 24) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, **NONE)
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    return model.eval()


def test_two_beams_find_what_greedy_misses() -> None:
    case, want = given("rtoq.beam_vs_greedy"), expected("rtoq.beam_vs_greedy")
    after = {0: case["second"]["0"], 1: case["second"]["1"], 3: case["first"]}
    table = torch.full((4, 4), -1e4, dtype=torch.float64)
    table[2, 2] = 0
    for state, probabilities in after.items():
        table[state, : len(probabilities)] = torch.tensor(probabilities, dtype=torch.float64).log()
    model = tiny.chain(table)
    for width, sequence, logp in ((1, "greedy_sequence", "greedy_logp"), (2, "beam2_sequence", "beam2_logp")):
        (found,) = BeamSearch(model, (), Beams(width=width, max_new_tokens=2)).search([torch.tensor([3])])
        assert found[0].completion.tokens.tolist() == want[sequence]
        assert found[0].score == pytest.approx(want[logp], rel=1e-9)
        assert found[0].completion.truncated


@pytest.mark.parametrize("width", [1, 2, 5])
def test_it_is_generates_with_length_penalty_0(width: int) -> None:
    for seed in range(4):
        model, stops = random(seed), [4, 9]
        prompts = [torch.randint(0, 24, (n,)) for n in (3, 7)]
        found = BeamSearch(model, stops, Beams(width=width, max_new_tokens=12)).search(prompts)
        for prompt, several in zip(prompts, found, strict=True):
            want = model.generate(
                prompt[None], attention_mask=torch.ones(1, len(prompt)), num_beams=width, do_sample=False,
                num_return_sequences=width, length_penalty=0.0, early_stopping=False, max_new_tokens=12,
                eos_token_id=stops, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
            for n, (one, row) in enumerate(zip(several, want.sequences, strict=True)):
                length = len(one.completion.tokens)
                assert row[len(prompt) : len(prompt) + length].tolist() == one.completion.tokens.tolist()
                assert one.completion.truncated == (one.completion.tokens[-1].item() not in stops)
                assert one.score == pytest.approx(float(one.completion.logp.sum()), abs=1e-9)
                if width > 1:
                    assert one.score == pytest.approx(float(want.sequences_scores[n]), abs=1e-5)


def test_wide_beams_are_exhaustive_search_with_and_without_a_reference() -> None:
    model, reference, prompt = random(1, 5), random(2, 5), torch.tensor([1, 3])
    sequences = torch.tensor(list(itertools.product(range(5), repeat=3)))
    with torch.no_grad():
        whole = torch.cat([prompt.expand(125, -1), sequences], 1)
        own, other = (
            m(whole).logits[:, 1:-1].log_softmax(-1).gather(2, sequences[..., None]).sum((1, 2))
            for m in (model, reference)
        )
    for beside, want in ((None, own), (reference, own - other)):
        (found,) = BeamSearch(model, (), Beams(width=125, max_new_tokens=3), beside).search([prompt])
        assert found[0].completion.tokens.tolist() == sequences[want.argmax()].tolist()
        assert [f.score for f in found] == pytest.approx(want.sort(descending=True).values.tolist())
        assert float(found[0].completion.logp.sum()) == pytest.approx(float(own[want.argmax()]))


def test_one_beam_is_greedy_decoding_and_ends_with_the_models_positions() -> None:
    model, prompt = random(3), torch.randint(0, 24, (60,))
    (found,) = BeamSearch(model, (), Beams(width=1, max_new_tokens=30)).search([prompt])
    sampler = LocalSampler(model, None, (), Sampling(temperature=0, max_new_tokens=30))  # type: ignore[arg-type]  # no stop texts
    ((greedy,),) = sampler.sample([prompt])
    assert found[0].completion.tokens.tolist() == greedy.tokens.tolist()
    torch.testing.assert_close(found[0].completion.logp, greedy.logp)
    assert len(greedy.tokens) == 4


def test_refusals() -> None:
    with pytest.raises(ModelError, match="5 tokens, the policy knows 24") as caught:
        BeamSearch(random(0), (), Beams(), random(0, 5))
    assert (caught.value.where, caught.value.remedy) == ("reference", "give the model that the policy was trained from")
    with pytest.raises(DataError, match="at least one token"):
        BeamSearch(random(0), (), Beams()).search([torch.tensor([], dtype=torch.int64)])
