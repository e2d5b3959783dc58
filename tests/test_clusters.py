"""Rows of one prompt are one observation, wherever twofold has an interval or a test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.intervals.coverage import clustered
from twofold.analysis.credit import Parting, partings
from twofold.evaluation.answers import _entry
from twofold.evaluation.exact_match import Row, summary
from twofold.evaluation.games import Game, agreement, order_agreement
from twofold.evaluation.pass_at_k import PassAtK, compare
from twofold.statistics import (
    bootstrap_ratio,
    clustered_share,
    cohens_kappa,
    mean_by_cluster,
    mean_interval,
    share_by_cluster,
    sign_flips,
    wilson,
)

PROMPTS = ["a", "b", "a", "c", "b", "a"]
"""Three, two and one row."""
RIGHT = [True, False, True, True, True, False]


def test_a_mean_has_the_cluster_robust_variance() -> None:
    """Values 2, 0, 3, 5, 2, 1 with mean 13/6. The residuals of a, b and c sum to 6 − 39/6, 2 − 26/6 and 5 − 13/6;
    the sandwich is the sum of their squares, times C / (C − 1), over n²: statsmodels' `cov_type="cluster"`."""
    found = mean_by_cluster([2.0, 0.0, 3.0, 5.0, 2.0, 1.0], PROMPTS)
    residuals = np.array([6 - 39 / 6, 2 - 26 / 6, 5 - 13 / 6])
    half = stats.t.ppf(0.975, 2) * math.sqrt((residuals**2).sum() * 3 / 2) / 6
    assert found.value == pytest.approx(13 / 6)
    assert (found.low, found.high) == pytest.approx((13 / 6 - half, 13 / 6 + half))
    assert (found.n, found.clusters) == (6, 3)
    assert mean_by_cluster([2.0, 0.0], ["a", "b"]) == mean_by_cluster([2.0, 0.0], ["a", "a"])
    assert mean_by_cluster([2.0, 0.0], ["a", "b"]) == mean_interval([2.0, 0.0])
    with pytest.raises(ValueError, match="not of the same length"):
        mean_by_cluster([2.0, 0.0], ["a"])


def test_a_share_is_at_the_effective_number_of_rows() -> None:
    found = share_by_cluster(RIGHT, PROMPTS)
    assert found == clustered_share([2, 1, 1], [3, 2, 1])
    assert found.as_dict()["clusters"] == 3
    assert share_by_cluster(RIGHT, []) == share_by_cluster(RIGHT, range(6)) == wilson(4, 6)


def test_two_judges_agree_over_prompts() -> None:
    """The jackknife: κ without a, without b and without c."""
    a, b = "xyxxyx", "xyyxxx"
    found, plain = cohens_kappa(a, b, clusters=PROMPTS), cohens_kappa(a, b)
    left = [
        cohens_kappa(*("".join(x for x, p in zip(side, PROMPTS, strict=True) if p != out) for side in (a, b))).value
        for out in "abc"
    ]
    half = stats.t.ppf(0.975, 2) * math.sqrt(2 / 3 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert found.value == plain.value
    assert (found.low, found.high) == pytest.approx((max(-1, plain.value - half), min(1, plain.value + half)))
    assert (found.n, found.clusters) == (6, 3)
    assert agreement([1.0, 0.0, 1.0], [1.0, 0.0, 0.5], ["p", "p", "q"]).same == clustered_share([2, 0], [2, 1])


def test_both_orders_of_several_games_of_a_prompt() -> None:
    rows = enumerate(zip(PROMPTS, RIGHT, strict=True))
    games = [Game(i, p, 1.0, 1, 1, ("A", "B" if r else "A")) for i, (p, r) in rows]
    found = order_agreement(games)
    assert found is not None
    assert found.agreement == clustered_share([2, 1, 1], [3, 2, 1])


def test_answers_of_one_problem_are_one_observation_of_an_accuracy() -> None:
    rows = [{"model": "m", "prompt": p, "strict": r, "truncated": False} for p, r in zip(PROMPTS, RIGHT, strict=True)]
    told = _entry("m", rows, {}).measures["strict"]
    assert told.estimate() == clustered_share([2, 1, 1], [3, 2, 1])
    other = [{**row, "strict": not row["strict"]} for row in rows]
    assert told.against(_entry("n", other, {}).measures["strict"]).test == sign_flips([2, 1, 1], [1, 1, 0])
    judged = [Row(str(i), p, "", "", r, not r, False) for i, (p, r) in enumerate(zip(PROMPTS, RIGHT, strict=True))]
    assert summary(judged).strict == clustered_share([2, 1, 1], [3, 2, 1])
    assert summary(judged).flexible == clustered_share([1, 1, 0], [3, 2, 1])


def sampled(*right: int, prompts: str) -> PassAtK:
    """Four samples of each problem."""
    rows = [
        {"name": f"q{i}", "prompt": p, "truncated": 0,
         **{m: {"right": n, "wrong": [4 - n], "silent": 0} for m in ("strict", "flexible")}}
        for i, (n, p) in enumerate(zip(right, prompts, strict=True))
    ]  # fmt: skip
    return PassAtK.of(rows)


def test_problems_with_the_same_prompt_are_one_observation_of_pass_at_k() -> None:
    a, b = sampled(1, 2, 3, 4, prompts="aabc"), sampled(2, 2, 4, 1, prompts="aabc")
    plain = bootstrap_ratio([0.75, 0.75, 1.0], [2.0, 1.0, 1.0])
    found = a.estimate("pass", "strict", 1)
    assert (found.low, found.high, found.n, found.clusters) == (plain.low, plain.high, 4, 3)
    assert compare(a, b, "pass", "strict", 1).test == sign_flips([0.75, 0.75, 1.0], [1.0, 1.0, 0.25])
    assert sampled(1, 2, 3, 4, prompts="abcd").estimate("pass", "strict", 1).clusters is None
    assert PassAtK.of(a.rows()).prompts == tuple("aabc")


def test_a_pass_rate_of_all_or_none_has_an_interval() -> None:
    assert sampled(0, 0, 0, prompts="abc").estimate("pass", "strict", 1) == wilson(0, 3)
    assert sampled(4, 4, 4, prompts="aab").estimate("pass", "strict", 4) == clustered_share([2, 1], [2, 1])


def test_margins_of_several_pairs_of_a_prompt() -> None:
    parts = {"opening": 0.0, "first": 1.0, "middle": 0.0, "ending": 0.0}
    pairs = [Parting(str(i), float(i), parts, 0, 0, (2, 2)) for i in range(6)]
    found = partings(pairs, PROMPTS)
    assert found.margin == mean_by_cluster([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], PROMPTS)
    assert found.margin.clusters == 3
    assert partings(pairs).margin == mean_interval([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])


def test_rows_as_if_independent_cover_too_little_and_reject_too_often() -> None:
    """40 samples of 60 prompts with 5 answers each, with the seed of the table in docs/statistics.md."""
    found = [(round(line.before * 40), round(line.now * 40)) for line in clustered(40)]
    assert found == [(29, 37), (34, 39), (5, 0)]


@pytest.mark.slow
def test_intervals_by_prompt_cover_and_tests_by_prompt_keep_their_size() -> None:
    share, mean, size = clustered(500)
    assert share.before < 0.85 < 0.92 < share.now < 0.98
    assert mean.before < 0.87 < 0.89 < mean.now < 0.98
    assert size.before > 0.12 > 0.08 > size.now > 0.015
