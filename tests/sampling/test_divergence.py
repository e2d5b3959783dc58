"""KL of whole answers by hand: of Markov chains, whose every distribution stands in a table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.errors import ModelError
from twofold.models.policy import Policy
from twofold.sampling import divergence as room
from twofold.sampling.base import Sample
from twofold.sampling.divergence import Divergence, divergence, refuse_strangers

ROWS = {
    "policy": [[0.5, 0.25, 0.15, 0.1], [0.2, 0.2, 0.5, 0.1], [0.6, 0.3, 0.05, 0.05], [0.25] * 4],
    "reference": [[0.25, 0.25, 0.4, 0.1], [0.4, 0.2, 0.3, 0.1], [0.1, 0.7, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]],
}
P, Q = (torch.tensor(rows, dtype=torch.float64) for rows in ROWS.values())
PROMPT = torch.tensor([2, 1])


def policy(table: Tensor) -> Policy:
    return Policy(tiny.chain(table.log()))


def drafts(*tokens: list[int]) -> list[Sample]:
    return [Sample(torch.tensor(t), torch.zeros(len(t)), truncated=False) for t in tokens]


def by_hand(answers: list[list[int]]) -> Divergence:
    """After 1 comes a draft's first token, after that its second …; every token adds its whole distribution's."""
    before = [state for answer in answers for state in (1, *answer[:-1])]
    tokens = [token for answer in answers for token in answer]
    ratio = (P / Q).log()
    return Divergence(
        len(tokens),
        -sum(float((P[s] * P[s].log()).sum()) for s in before),
        sum(float((P[s] * ratio[s]).sum()) for s in before),
        sum(float(ratio[s, t]) for s, t in zip(before, tokens, strict=True)),
    )


def same(found: Divergence, want: Divergence) -> None:
    assert found.tokens == want.tokens
    got = (found.entropy, found.kl, found.kl_drawn)
    assert got == pytest.approx((want.entropy, want.kl, want.kl_drawn), rel=1e-9)


ANSWERS = [[0, 2, 1], [2], [1, 1], [0, 0, 0, 2]]


@pytest.mark.parametrize("portion", [1, 24, 10**6])
def test_every_token_adds_what_its_whole_distribution_says(monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    """In portions of one draft, of one again (6 columns of 4 tokens are 24), or of all: the sums are the same."""
    calls: list[int] = []
    told = Policy.distributions
    monkeypatch.setattr(room, "HELD", portion)
    monkeypatch.setattr(Policy, "distributions", lambda self, g: (calls.append(len(g.branches)), told(self, g))[1])
    same(divergence(policy(P), policy(Q), PROMPT, drafts(*ANSWERS)), by_hand(ANSWERS))
    assert calls == ([1, 1] * 4 if portion < 48 else [4, 4])


def test_portions_are_as_large_as_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest row is 2 + 4 columns of 4 tokens: 48 entries hold two rows, 47 one."""
    sizes = {}
    for most in (47, 48, 71, 72):
        monkeypatch.setattr(room, "HELD", most)
        sizes[most] = [len(part) for part in room._parts(drafts(*ANSWERS), len(PROMPT), 4)]
    assert sizes == {47: [1] * 4, 48: [2, 2], 71: [2, 2], 72: [3, 1]}
    assert room._parts(drafts([1]), 10**6, 10**6)[0][0].tokens.tolist() == [1]


def test_without_a_reference_the_entropy_alone() -> None:
    want = by_hand(ANSWERS)
    found = divergence(policy(P), None, PROMPT, drafts(*ANSWERS))
    assert (found.tokens, found.kl, found.kl_drawn) == (want.tokens, 0.0, 0.0)
    assert found.entropy == pytest.approx(want.entropy, rel=1e-9)


def test_a_model_has_no_divergence_from_itself() -> None:
    found = divergence(policy(P), policy(P), PROMPT, drafts(*ANSWERS))
    assert (found.kl, found.kl_drawn) == (0.0, 0.0)


def test_models_of_different_vocabularies_are_no_pair() -> None:
    refuse_strangers(policy(P), policy(Q))
    even = torch.full((2, 2), 0.5, dtype=torch.float64)
    with pytest.raises(ModelError, match="2 tokens, the policy knows 4") as caught:
        refuse_strangers(policy(P), policy(even))
    assert (caught.value.where, "trained from" in caught.value.remedy) == ("reference", True)
