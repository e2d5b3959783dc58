"""Drafts of encoder–decoders: those of `generate`, of a prompt that is read once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from support.seq2seq import MAKERS
from twofold.batch import Branch, Group, Role
from twofold.models.policy import Policy
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.local import LocalSampler

STOPS = (1, 2, 11, 12, 13, 14, 15)


def prompts(*lengths: int) -> list[Tensor]:
    noise = torch.Generator().manual_seed(0)
    return [torch.randint(3, 61, (n,), generator=noise) for n in lengths]


def sampler(model: tr.PreTrainedModel, drive: str = "auto", **settings: Any) -> LocalSampler:
    no_text: Any = None
    return LocalSampler(model, no_text, STOPS, Sampling(max_new_tokens=10, **settings), drive=drive)  # type: ignore[arg-type]  # a literal


def generated(model: tr.PreTrainedModel, prompt: Tensor, **how: Any) -> Tensor:
    """What transformers writes behind the start token, without its cache."""
    made = model.generate(
        prompt[None], max_new_tokens=10, do_sample=False, use_cache=False, eos_token_id=list(STOPS), **how
    )  # type: ignore[operator]  # a mixin's
    return made[0, 1:]


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("forced", [None, 7])
@pytest.mark.parametrize("kind", MAKERS)
def test_greedy_drafts_are_those_of_generate(kind: str, forced: int | None, layers: int) -> None:
    model = MAKERS[kind](**{"num_decoder_layers" if kind == "t5" else "decoder_layers": layers}).double()
    model.generation_config.forced_bos_token_id = forced
    given = prompts(5, 9, 3, 5, 30)
    drawing = sampler(model, temperature=0.0)
    for prompt, (draft,) in zip(given, drawing.sample(given), strict=True):
        assert torch.equal(generated(model, prompt)[: len(draft.tokens)], draft.tokens)
        assert forced is None or draft.tokens[0] == forced
    assert "all rows of a decoder start together" in drawing.note


@pytest.mark.parametrize("kind", MAKERS)
def test_drafts_are_the_policys_own_however_they_are_drawn(kind: str) -> None:
    model = MAKERS[kind]().double()
    model.generation_config.forced_bos_token_id = 9
    given = prompts(5, 9, 3, 5, 30)

    def drawn(drive: str, batch_size: int) -> list[Sample]:
        several = sampler(model, drive, batch_size=batch_size).sample(given, samples=4, seed=(3, 1))
        return [draft for drafts in several for draft in drafts]

    first = drawn("auto", 64)
    assert len({len(draft.tokens) for draft in first}) > 2  # some end early, and leave the batch
    for other in (drawn("auto", 5), drawn("rows", 64), drawn("rows", 3)):
        for a, b in zip(first, other, strict=True):
            assert torch.equal(a.tokens, b.tokens)
            assert torch.allclose(a.logp, b.logp, atol=1e-10, rtol=0)
    groups = [
        Group(f"{i}", prompt, tuple(Branch(d.tokens, Role.DRAFT) for d in first[4 * i : 4 * i + 4]))
        for i, prompt in enumerate(given)
    ]
    said = [logp for row in Policy(model).logps(groups) for logp in row]
    assert all(torch.allclose(d.logp, logp, atol=1e-10, rtol=0) for d, logp in zip(first, said, strict=True))


@pytest.mark.parametrize("kind", MAKERS)
def test_each_prompt_is_read_once_for_all_drafts(kind: str) -> None:
    model, read = MAKERS[kind](), list[int]()

    def count(_: nn.Module, __: object, arguments: dict[str, Any]) -> None:
        read.append(int(arguments["attention_mask"].sum()))

    drawing = sampler(model)
    drawing.sample(prompts(4))  # the architecture is tried
    hook = model.get_encoder().register_forward_pre_hook(count, with_kwargs=True)
    drawing.sample(prompts(5, 9, 3), samples=6)
    hook.remove()
    assert sum(read) == 17


@pytest.mark.parametrize("forced", [None, 7])
@pytest.mark.parametrize("kind", MAKERS)
def test_beams_are_those_of_generate(kind: str, forced: int | None) -> None:
    model = MAKERS[kind]().double()
    model.generation_config.forced_bos_token_id = forced
    for prompt, found in zip(
        prompts(5, 9), BeamSearch(model, STOPS, Beams(width=4, max_new_tokens=10)).search(prompts(5, 9)), strict=True
    ):
        best = generated(model, prompt, num_beams=4, length_penalty=0.0, early_stopping="never")
        assert torch.equal(best[: len(found[0].completion.tokens)], found[0].completion.tokens)
        assert found[0].score == pytest.approx(float(found[0].completion.logp.sum()), abs=1e-10)


def test_a_static_cache_is_left_out_with_a_note() -> None:
    model, notes = MAKERS["t5"](), list[str]()
    no_text: Any = None
    how = Sampling(max_new_tokens=4, cache="static", temperature=0.0)
    drawing = LocalSampler(model, no_text, STOPS, how, notes.append)
    (first,) = drawing.sample(prompts(5))[0]
    assert torch.equal(first.tokens, sampler(model, temperature=0.0).sample(prompts(5))[0][0].tokens[:4])
    assert notes == ["completions are decoded with a growing cache: its prompts are read by an encoder"]
