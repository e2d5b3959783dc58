"""Drift of style and KL, by value: against whole enumeration where the models are tables."""

from __future__ import annotations

import math

import pytest
import torch

from support import tiny
from twofold.analysis.drift import drift
from twofold.errors import ModelError
from twofold.models.attention import stock_attention
from twofold.models.policy import Policy
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.local import LocalSampler


def coin(p: float) -> Policy:
    """After anything: token 1 with probability p, else token 0; 2 and 3 never."""
    table = torch.full((4, 4), -1e4, dtype=torch.float64)
    table[:, 0], table[:, 1] = math.log(1 - p), math.log(p)
    return Policy(tiny.chain(table))


def draft(tokens: list[int], *, truncated: bool = False) -> Sample:
    return Sample(torch.tensor(tokens), torch.zeros(len(tokens)), truncated)


def test_every_figure_by_hand() -> None:
    """Coins of ¾ and ½: KL of a toss ¾·ln 1.5 + ¼·ln ½, entropies −Σ p·ln p; answers of 2 and 4 tokens and of 1."""
    policy, reference, prompts = coin(0.75), coin(0.5), [torch.tensor([3]), torch.tensor([3, 3])]
    own = [[draft([1, 1])], [draft([1, 0, 1, 1], truncated=True)]]
    other = [[draft([0])], [draft([1])]]
    found = drift(policy, reference, prompts, own, other)
    toss = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found.kl_token.value == pytest.approx(toss, rel=1e-9)
    assert found.kl.value == pytest.approx(3 * toss, rel=1e-9)
    assert found.kl_drawn.value == pytest.approx((5 * math.log(1.5) + math.log(0.5)) / 2, rel=1e-9)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.policy.entropy.value == pytest.approx(entropy, rel=1e-9)
    assert found.reference.entropy.value == pytest.approx(math.log(2), rel=1e-9)
    assert found.surer.value == pytest.approx(math.log(2) - entropy, rel=1e-9)
    assert (found.policy.length.value, found.reference.length.value, found.longer.value) == (3.0, 1.0, 2.0)
    assert (found.policy.truncated.value, found.reference.truncated.value) == (0.5, 0.0)
    assert found.policy.distinct[0] == 0.5  # of the first two tokens, as many as the reference says: 1 1
    assert found.reference.distinct[0] == 1.0
    assert found.policy.distinct[1] == 0.0  # the reference says no two tokens in a row: nothing to compare


def test_samples_estimate_the_kl_that_enumeration_gives() -> None:
    """On a transformer with answers of three tokens out of 5: both estimates hold the sum over all 125 answers, and the
    one from whole distributions is the narrower."""
    models = [Policy(tiny.llama(seed, vocab_size=5).double()) for seed in (0, 1)]
    prompt = torch.tensor([1, 3])
    sequences = torch.cartesian_prod(*[torch.arange(5)] * 3)
    whole = torch.cat([prompt.expand(125, -1), sequences], 1)
    sums = []
    for m in models:
        with torch.no_grad(), stock_attention(m.model):
            logp = m.model(whole).logits[:, 1:-1].log_softmax(-1)
        sums.append(logp.gather(2, sequences[..., None]).sum((1, 2)))
    own, other = sums
    exact = float((own.exp() * (own - other)).sum())
    sampling = Sampling(max_new_tokens=3, batch_size=256)
    drafts = [
        LocalSampler(m.model, None, (), sampling).sample([prompt], samples=400, seed=(0, i))[0]  # type: ignore[arg-type]  # no stop texts
        for i, m in enumerate(models)
    ]
    found = drift(*models, [prompt] * 400, *([[d] for d in side] for side in drafts))
    for estimate in (found.kl, found.kl_drawn):
        assert estimate.low < exact < estimate.high
    assert found.kl.high - found.kl.low < found.kl_drawn.high - found.kl_drawn.low


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reference = (Policy(tiny.llama(seed).double()) for seed in (0, 1))
    prompts = [torch.tensor([1, 2, 3])]
    drafts = [[draft([4, 5, 6]), draft([7]), draft([8, 9])]]
    whole = drift(policy, reference, prompts, drafts, drafts)
    monkeypatch.setattr("twofold.sampling.divergence.HELD", 1)
    parts = drift(policy, reference, prompts, drafts, drafts)
    assert parts.kl.value == pytest.approx(whole.kl.value, rel=1e-12)
    assert parts.policy.entropy.value == pytest.approx(whole.policy.entropy.value, rel=1e-12)


def test_nothing_cannot_drift() -> None:
    strange = Policy(tiny.llama(0, vocab_size=5).double())
    with pytest.raises(ModelError, match="5 tokens, the policy knows 4"):
        drift(coin(0.5), strange, [torch.tensor([1])], [[draft([1])]], [[draft([1])]])
    with pytest.raises(ValueError, match="answers of both models"):
        drift(coin(0.5), coin(0.5), [torch.tensor([1])], [[draft([1])]], [[]])
