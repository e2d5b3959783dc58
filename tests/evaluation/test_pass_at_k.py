"""pass@k and maj@k against every subset of the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support import golden
from twofold.errors import DataError
from twofold.evaluation.pass_at_k import PassAtK, compare, estimate_maj_at_k, estimate_pass_at_k, solve
from twofold.records import Prompt, Source, Task
from twofold.sampling.base import Draft


def test_golden() -> None:
    """1 − C(7, k)/C(10, k): 3/10, 1 − 21/45, 1 − 21/252, 1."""
    asked, expected = golden.given("eval.pass_at_k"), golden.expected("eval.pass_at_k")
    n, c = asked["n"], asked["c"]
    assert [estimate_pass_at_k(n, c, k) for k in asked["k"]] == pytest.approx(expected["pass_at_k"], abs=1e-15)
    assert estimate_pass_at_k(10, 0, 5) == expected["c0"][0]
    assert estimate_pass_at_k(10, 10, 1) == expected["c10"][0]


COUNTS = st.tuples(st.integers(0, 4), st.lists(st.integers(1, 3), max_size=3), st.integers(0, 2)).filter(
    lambda c: c[0] + sum(c[1]) + c[2] > 0
)


@given(counts=COUNTS)
@settings(max_examples=60, deadline=None)
def test_both_are_means_over_all_subsets(counts: tuple[int, list[int], int]) -> None:
    right, wrong, silent = counts
    said: list[str | None] = ["right"] * right + [f"w{i}" for i, n in enumerate(wrong) for _ in range(n)]
    said += [None] * silent
    for k in range(1, len(said) + 1):
        subsets = [[said[i] for i in members] for members in combinations(range(len(said)), k)]
        solved = sum("right" in subset for subset in subsets) / len(subsets)
        assert estimate_pass_at_k(len(said), right, k) == pytest.approx(solved, abs=1e-12)
        assert estimate_maj_at_k(right, wrong, silent, k) == pytest.approx(
            sum(map(vote, subsets)) / len(subsets), abs=1e-12
        )


def vote(subset: Sequence[str | None]) -> float:
    votes = Counter(answer for answer in subset if answer is not None)
    best = [answer for answer, n in votes.items() if n == max(votes.values())]
    return ("right" in best) / len(best) if best else 0.0


def test_many_samples_do_not_overflow() -> None:
    assert estimate_pass_at_k(100_000, 3, 1000) == pytest.approx(1 - (0.99**3), abs=1e-4)
    assert estimate_maj_at_k(60, [20, 20], 0, 50) > 0.999
    for wrong in ((1, 2, 2), (1, 0, 0), (3, -1, 1)):
        with pytest.raises(ValueError, match="needs"):
            estimate_pass_at_k(wrong[0], wrong[1], wrong[2])


class Letters:
    """A codec of one token per character."""

    def prompt(self, prompt: Prompt) -> Tensor:
        return torch.tensor([ord(c) for c in str(prompt)])

    def text(self, tokens: Tensor) -> str:
        return "".join(chr(int(t)) for t in tokens)


class Recites:
    """Says the samples of a table, by prompt."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table, self.asked = table, list[tuple[int, int]]()

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        self.asked.append((len(prompts), samples))
        texts = (self.table[Letters().text(p)][:samples] for p in prompts)
        return [[Draft(Letters().prompt(t), torch.zeros(len(t)), t.endswith("…")) for t in some] for some in texts]


TASKS = [Task("q0", "#### 1", Source("t", 1)), Task("q1", "#### 2", Source("t", 2))]
GOOD = {"q0": ["#### 1", "so 1.0", "#### 3", "…"], "q1": ["#### 2"] * 3 + ["#### 4"]}
BAD = {"q0": ["#### 7"] * 4, "q1": ["#### 2", "#### 4", "#### 4", "#### 4"]}


def found(table: dict[str, list[str]]) -> PassAtK:
    return solve(Recites(table), TASKS, Letters(), 4)


def test_answers_are_counted_by_their_text_and_by_their_value() -> None:
    sampler = Recites(GOOD)
    result = solve(sampler, TASKS, Letters(), 4)
    assert sampler.asked == [(2, 4)]
    strict, flexible = (result.problems[m][0] for m in ("strict", "flexible"))
    assert (strict.right, strict.wrong, strict.silent) == (1, (1,), 2)
    assert (flexible.right, flexible.wrong, flexible.silent) == (2, (1,), 1)
    assert result.truncated == 1
    assert result.estimate("pass", "strict", 1).value == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert result.estimate("pass", "strict", 4).value == 1
    assert result.estimate("maj", "strict", 4).value == pytest.approx((1 / 2 + 1) / 2)
    interval = result.estimate("pass", "strict", 1)
    assert (interval.low, interval.high, interval.n) == (0.25, 0.75, 2)
    assert "bootstrap over items" in interval.method


def test_two_models_are_compared_problem_by_problem() -> None:
    told = compare(found(BAD), found(GOOD), "pass", "strict", 1)
    assert told.difference.value == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert (told.test.only_a, told.test.only_b, told.test.p_value) == (0, 2, 0.5)
    assert told.as_dict()["difference"]["value"] == told.difference.value
    other = solve(Recites({"q0": GOOD["q0"]}), TASKS[:1], Letters(), 4)
    with pytest.raises(DataError, match="different problems"):
        compare(other, found(GOOD), "pass", "strict", 1)


def test_a_problem_without_an_answer_is_named_before_anything_is_drawn() -> None:
    sampler = Recites({})
    with pytest.raises(DataError, match="holds no number"):
        solve(sampler, [Task("q", "nothing", Source("t", 9))], Letters(), 2)
    assert sampler.asked == []
