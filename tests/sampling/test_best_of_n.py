"""Best-of-N chooses what the scorer likes, and its formulas are those of enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given as each
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from support.golden import expected as wanted
from support.golden import given
from twofold.errors import DataError
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.best_of_n import best_of_n, distribution, expected, kl_bound
from twofold.sampling.local import LocalSampler


@pytest.mark.parametrize("n", [1, 2, 4, 16, 64, 128])
def test_kl_bound(n: int) -> None:
    case = f"bon.kl_bound_n{n}"
    assert kl_bound(given(case)["N"]) == pytest.approx(wanted(case)["kl"], rel=1e-12, abs=1e-15)


def test_exact_over_three_answers() -> None:
    case, want = given("bon.discrete"), wanted("bon.discrete")
    found = distribution(case["probs"], case["rewards_sorted_ascending"], case["N"])
    assert found.probabilities == pytest.approx(want["bon_probs"], rel=1e-12)
    assert found.score == pytest.approx(want["E_max"], rel=1e-12)
    assert found.kl == pytest.approx(want["kl_exact"], rel=1e-12)
    assert kl_bound(case["N"]) == pytest.approx(want["kl_bound"], rel=1e-12)


@each(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_distribution_is_that_of_enumerated_draws(answers: list[tuple[int, int]], n: int) -> None:
    weights, scores = zip(*answers, strict=True)
    probabilities = [w / sum(weights) for w in weights]
    counted = [0.0] * len(answers)
    for drawn in itertools.product(range(len(answers)), repeat=n):
        first = max(drawn, key=lambda i: scores[i])
        counted[first] += math.prod(probabilities[i] for i in drawn)
    found = distribution(probabilities, [float(s) for s in scores], n)
    assert found.probabilities == pytest.approx(counted, rel=1e-9)
    assert -1e-12 < found.kl <= kl_bound(n) + 1e-12


@each(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=6), st.data())
def test_expected_is_the_mean_over_all_subsets(drafts: list[tuple[int, int]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(drafts)))
    bests = []
    for subset in itertools.combinations(drafts, n):
        top = max(score for score, _ in subset)
        tied = [value for score, value in subset if score == top]
        bests.append(sum(tied) / len(tied))
    found = expected([float(s) for s, _ in drafts], [float(v) for _, v in drafts], n)
    assert found == pytest.approx(sum(bests) / len(bests), rel=1e-9, abs=1e-12)


def test_the_scorers_favourite_is_chosen_and_the_first_of_equals() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    sampler = LocalSampler(LlamaForCausalLM(config), None, (3,), Sampling(max_new_tokens=9))  # type: ignore[arg-type]  # no stop texts
    prompts = [torch.tensor([1, 2]), torch.tensor([5])]
    drafts = sampler.sample(prompts, samples=6, seed=(4, 0))
    lengths = [[float(len(d.tokens)) for d in several] for several in drafts]
    found = best_of_n(
        sampler, prompts, lambda all_: [[float(len(d.tokens)) for d in some] for some in all_], n=6, seed=(4, 0)
    )
    for best, several, own in zip(found, drafts, lengths, strict=True):
        assert best.scores == tuple(own)
        assert best.index == own.index(max(own))
        assert best.completion.tokens.tolist() == several[best.index].tokens.tolist()
    with pytest.raises(DataError, match="prompt 2 of 2"):
        best_of_n(sampler, prompts, lambda _: [[0.0] * 6, [math.nan] * 6], n=6)


@pytest.mark.parametrize(
    ("message", "act"),
    [
        ("n must be ≥ 1", lambda: kl_bound(0)),
        ("must sum to 1", lambda: distribution([0.5, 0.4], [0.0, 1.0], 2)),
        ("each score needs a probability", lambda: distribution([0.5, 0.5], [0.0], 2)),
        ("between 1 and the number", lambda: expected([1.0, 2.0], [1.0, 2.0], 0)),
        ("between 1 and the number", lambda: expected([1.0, 2.0], [1.0, 2.0], 3)),
        ("one value per score", lambda: expected([1.0, 2.0], [1.0], 1)),
    ],
)
def test_what_has_no_best_is_refused(message: str, act: Any) -> None:
    with pytest.raises(ValueError, match=message):
        act()


def test_an_answer_that_is_never_drawn_is_never_the_best() -> None:
    found = distribution([0.5, 0.0, 0.5], [0.0, 2.0, 1.0], 2)
    assert found.probabilities == (0.25, 0.0, 0.75)
    assert found.score == 0.75
    assert found.kl == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert distribution([1 / 3] * 3, [0.0] * 3, 5).probabilities == pytest.approx([1 / 3] * 3)


class Fixed:
    """Draws what it was given, and remembers how it was asked."""

    def __init__(self, *drafts: list[Sample]) -> None:
        self.drafts, self.calls = drafts, list[Any]()

    def sample(self, prompts: Any, *, samples: int = 1, seed: tuple[int, int] = (0, 0)) -> list[list[Sample]]:
        self.calls.append((len(prompts), samples, seed))
        return list(self.drafts)


def test_the_best_by_hand() -> None:
    """The first of equals; −∞ is a score, what is no number and what is missing are none."""
    made = [Sample(torch.tensor([i]), torch.zeros(1), truncated=False) for i in range(3)]
    sampler, prompts = Fixed(made, made), [torch.tensor([1])] * 2
    scores = [[1.0, 2.0, 2.0], [-math.inf, -math.inf, -5.0]]
    found = best_of_n(sampler, prompts, lambda drafts: scores, n=3)
    assert [(b.index, b.scores, b.completion is made[b.index]) for b in found] == [
        (1, (1.0, 2.0, 2.0), True), (2, (-math.inf, -math.inf, -5.0), True),
    ]  # fmt: skip
    best_of_n(sampler, prompts, lambda drafts: scores, n=3, seed=(4, 2))
    assert sampler.calls == [(2, 3, (0, 0)), (2, 3, (4, 2))]
    with pytest.raises(DataError, match="a completion has no score") as caught:
        best_of_n(sampler, prompts, lambda drafts: [scores[0][:2], scores[1]], n=3)
    assert caught.value.where == "prompt 1 of 2"
    with pytest.raises(ValueError, match="shorter"):
        best_of_n(sampler, prompts, lambda drafts: scores[:1], n=3)
