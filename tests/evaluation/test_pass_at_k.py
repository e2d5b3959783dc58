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
from support.frozen import refuse_changes
from support.heard import Heard
from twofold.data.reasoning import Parted
from twofold.errors import DataError
from twofold.evaluation.pass_at_k import PassAtK, compare, estimate_maj_at_k, estimate_pass_at_k, solve
from twofold.records import Prompt, Source, Task
from twofold.sampling.base import Sample
from twofold.statistics import bootstrap_ratio, paired_bootstrap, sign_flips


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


@pytest.mark.parametrize(("n", "right", "k"), [(1, 2, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4), (0, 0, 1)])
def test_more_than_there_is_has_no_chance(n: int, right: int, k: int) -> None:
    with pytest.raises(ValueError) as refused:
        estimate_pass_at_k(n, right, k)
    assert str(refused.value) == f"needs 0 ≤ right ≤ n and 1 ≤ k ≤ n, got n {n}, right {right}, k {k}"


@pytest.mark.parametrize(
    ("right", "wrong", "silent", "k"),
    [(1, [1], 1, 0), (1, [1], 1, 4), (-1, [3], 1, 2), (3, [1], -1, 2), (3, [2, -1], 0, 2)],
)
def test_more_than_there_is_has_no_vote(right: int, wrong: list[int], silent: int, k: int) -> None:
    with pytest.raises(ValueError) as refused:
        estimate_maj_at_k(right, wrong, silent, k)
    assert str(refused.value) == f"needs counts ≥ 0 and 1 ≤ k ≤ {right + sum(wrong) + silent}, got k {k}"


class Letters:
    """A codec of one token per character."""

    def prompt(self, prompt: Prompt) -> Tensor:
        return torch.tensor([ord(c) for c in str(prompt)])

    def text(self, tokens: Tensor) -> str:
        return "".join(chr(int(t)) for t in tokens)

    def parted(self, prompt: Prompt, tokens: Tensor) -> Parted:
        return Parted(self.text(tokens))


class Recites:
    """Says the samples of a table, by prompt."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table, self.asked = table, list[tuple[int, int]]()
        self.seeds = list[tuple[int, int]]()

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        self.asked.append((len(prompts), samples))
        self.seeds.append(seed)
        texts = (self.table[Letters().text(p)][:samples] for p in prompts)
        return [[Sample(Letters().prompt(t), torch.zeros(len(t)), t.endswith("…")) for t in some] for some in texts]


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
    with pytest.raises(DataError) as refused:
        compare(other, found(GOOD), "pass", "strict", 1)
    assert str(refused.value) == ("the two models were sampled on different problems\n  → sample both on the same file")


def test_each_problem_is_counted_by_both_rules() -> None:
    """`1.0` is 1 by its value alone; the other answers come by how often they were given."""
    rows = ["#### 1", "so 1.0", "#### 3", "#### 3", "#### 4", "…"]
    result = solve(Recites({"q0": rows}), TASKS[:1], Letters(), 6)
    assert result.counts() == [
        {"name": "t:1", "strict": {"right": 1, "wrong": [2, 1], "silent": 2},
         "flexible": {"right": 2, "wrong": [2, 1], "silent": 1}},
    ]  # fmt: skip
    refuse_changes(result)
    refuse_changes(result.problems["strict"][0], slots=True)


def test_results_are_alike_whatever_was_computed_of_them() -> None:
    one, two = found(GOOD), found(GOOD)
    assert one.values("maj", "flexible", 3) is one.values("maj", "flexible", 3)  # once is enough
    assert (one == two, repr(one) == repr(two), one == found(BAD)) == (True, True, False)
    assert one.values("pass", "strict", 1) == [1 / 4, 3 / 4]
    assert one.values("maj", "strict", 4) == [1 / 2, 1.0]
    assert one.estimate("pass", "strict", 1) == bootstrap_ratio([1 / 4, 3 / 4], [1.0, 1.0])
    told = compare(found(BAD), one, "maj", "flexible", 2)
    values = [x.values("maj", "flexible", 2) for x in (found(BAD), one)]
    assert (told.difference, told.test) == (paired_bootstrap(*values), sign_flips(*values))


def test_256_samples_are_drawn_at_a_time() -> None:
    heard, sampler = Heard(), Recites({"q0": ["#### 1"] * 300, "q1": ["#### 2"] * 50 + ["it is 2"] * 250})
    solve(sampler, [TASKS[0], TASKS[1], TASKS[0]], Letters(), 100, progress=heard, seed=3)
    solve(sampler, TASKS, Letters(), 257)
    assert sampler.asked == [(2, 100), (1, 100), (1, 257), (1, 257)]
    assert sampler.seeds == [(3, 0), (3, 0), (0, 0), (0, 0)]
    assert heard.of("pass@k") == [
        ("begin", 3), ("advance", 2, {"strict": 150 / 200, "flexible": 1.0}),
        ("advance", 1, {"strict": 250 / 300, "flexible": 1.0}), ("end",),
    ]  # fmt: skip


def test_a_problem_without_an_answer_is_named_before_anything_is_drawn() -> None:
    sampler = Recites({})
    with pytest.raises(DataError, match="holds no number"):
        solve(sampler, [Task("q", "nothing", Source("t", 9))], Letters(), 2)
    assert sampler.asked == []
