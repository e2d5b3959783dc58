"""Beam search with a guide: exact where wide; a base guided by a policy's log-ratio is that policy's search."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from support.tiny import llama
from twofold.sampling.beam import Beams, BeamSearch


def random(seed: int) -> PreTrainedModel:
    return llama(seed, vocab_size=5).double()


def logps(model: PreTrainedModel, prompt: Tensor, token_MN: Tensor) -> Tensor:
    """Σ log π of each beginning [M]."""
    whole = torch.cat([prompt.expand(len(token_MN), -1), token_MN], 1)
    with torch.no_grad():
        logp = model(whole).logits.log_softmax(-1)[:, len(prompt) - 1 : -1]
    return logp.gather(2, token_MN[:, :, None]).sum((1, 2))


def test_a_wide_search_maximizes_the_sum_of_log_probability_and_value() -> None:
    model, prompt = random(1), torch.tensor([1, 3])
    worth = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3

    def value(begun: Tensor, token_MN: Tensor) -> Tensor:
        assert begun.tolist() == [1, 3]
        return worth[token_MN].sum(1)

    every = torch.tensor(list(itertools.product(range(5), repeat=3)))
    total = logps(model, prompt, every) + value(prompt, every)
    (found,) = BeamSearch(model, (), Beams(width=125, max_new_tokens=3), guide=value).search([prompt])
    order = total.sort(descending=True)
    assert [one.completion.tokens.tolist() for one in found] == every[order.indices].tolist()
    assert [one.score for one in found] == pytest.approx(order.values.tolist(), abs=1e-9)
    own = logps(model, prompt, found[0].completion.tokens[None])
    assert float(found[0].completion.logp.sum()) == pytest.approx(own.item(), abs=1e-9)  # the value is not in it
    (plain,) = BeamSearch(model, (), Beams(width=125, max_new_tokens=3)).search([prompt])
    assert plain[0].completion.tokens.tolist() != found[0].completion.tokens.tolist()


@pytest.mark.parametrize("stops", [(), (4,)])
def test_a_base_guided_by_a_policys_log_ratio_is_that_policys_own_search(stops: tuple[int, ...]) -> None:
    """Source 003: Σ log π_ref + value is Σ log π where the value is DPO's, so both compare the same sums. Each beam
    shows the guide all five tokens."""
    policy, base, prompt = random(1), random(2), torch.tensor([0, 2, 1])
    how = Beams(width=5, max_new_tokens=6)

    def ratio(begun: Tensor, token_MN: Tensor) -> Tensor:
        return logps(policy, begun, token_MN) - logps(base, begun, token_MN)

    (own,), (guided,), (alone,) = (
        BeamSearch(model, stops, how, guide=guide).search([prompt])
        for model, guide in ((policy, None), (base, ratio), (base, None))
    )
    assert [one.completion.tokens.tolist() for one in guided] == [one.completion.tokens.tolist() for one in own]
    assert [one.score for one in guided] == pytest.approx([one.score for one in own], abs=1e-9)
    assert [one.completion.tokens.tolist() for one in alone] != [one.completion.tokens.tolist() for one in own]
