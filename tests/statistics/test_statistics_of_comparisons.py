"""The statistics that comparisons rest on: the golden values, corrections for many tests, agreement, coverage."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import approx_fprime

from support.golden import expected, given
from twofold.statistics import (
    bootstrap_ratio,
    cohens_kappa,
    holm,
    mcnemar,
    paired_bootstrap,
    two_proportions,
    wilson,
    win_rate,
)

P_VALUES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=6)


def test_golden_win_rate() -> None:
    case, want = given("eval.win_rate"), expected("eval.win_rate")
    found = win_rate(case["wins"], case["ties"], case["losses"])
    assert found.half_ties == pytest.approx(want["win_rate_half_ties"], abs=1e-12)
    assert found.no_ties == pytest.approx(want["win_rate_no_ties"], abs=1e-12)
    assert [found.wins.low, found.wins.high] == pytest.approx(want["wilson_wins_over_n"], abs=1e-9)
    assert math.isnan(win_rate(0, 3, 0).no_ties)


def test_golden_gsm8k_intervals_and_the_sources_own_gain() -> None:
    case, want = given("eval.gsm8k_ci"), expected("eval.gsm8k_ci")
    n, (base, dpo, pdpo) = case["n"], case["correct"]
    for count, share, ends in zip(case["correct"], want["acc"], want["wilson"], strict=True):
        found = wilson(count, n)
        assert [found.value, found.low, found.high] == pytest.approx([share, *ends], abs=1e-9)
    assert two_proportions(dpo, n, pdpo, n)[0] == pytest.approx(want["two_proportion_z_dpo_vs_pdpo"], abs=1e-9)
    assert two_proportions(base, n, pdpo, n)[0] == pytest.approx(want["two_proportion_z_base_vs_pdpo"], abs=1e-9)


def test_golden_mcnemar() -> None:
    case = given("eval.mcnemar")
    a, b = [True] * case["b"] + [False] * case["c"], [False] * case["b"] + [True] * case["c"]
    assert mcnemar(a, b).p_value == pytest.approx(expected("eval.mcnemar")["p"], abs=1e-12)


@over(st.integers(1, 400), st.integers(1, 400), st.data())
@settings(max_examples=60, deadline=None)
def test_two_proportions_is_scipys_welch_statistic(n_a: int, n_b: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    z, p = two_proportions(a, n_a, b, n_b)
    told = [(np.repeat([0.0, 1.0], [n - count, count]), n) for count, n in ((b, n_b), (a, n_a))]
    if 0 < a < n_a or 0 < b < n_b:
        theirs = stats.ttest_ind_from_stats(
            *(part for values, n in told for part in (values.mean(), values.std(), n)), equal_var=False
        )
        assert z == pytest.approx(theirs.statistic, abs=1e-9)
        assert p == pytest.approx(2 * stats.norm.sf(abs(z)), abs=1e-12)
    else:
        assert p == (1.0 if a * n_b == b * n_a else 0.0)


@over(P_VALUES)
@settings(max_examples=100, deadline=None)
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    """A hypothesis falls when every intersection that holds it does, each at size · (its smallest p)."""
    everyone = range(len(p_values))
    closed = [
        max(
            min(1.0, size * min(p_values[j] for j in some))
            for size in range(1, len(p_values) + 1)
            for some in combinations(everyone, size)
            if i in some
        )
        for i in everyone
    ]
    assert holm(p_values) == pytest.approx(closed, abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@over(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=3, max_size=80))
@settings(max_examples=80, deadline=None)
def test_kappa_and_its_interval_are_those_of_the_delta_method(said: list[tuple[int, int]]) -> None:
    """κ as a function of the nine cells, its gradient by differences, the cells multinomial."""
    n = len(said)
    cells = np.array([Counter(said)[x, y] / n for x in range(3) for y in range(3)])

    def kappa(p: np.ndarray) -> float:
        square = p.reshape(3, 3) / p.sum()
        chance = float(square.sum(0) @ square.sum(1))
        return (float(np.trace(square)) - chance) / (1 - chance)

    found = cohens_kappa([x for x, _ in said], [y for _, y in said])
    if math.isnan(found.value):
        assert len(set(said)) == 1
        return
    assert found.value == pytest.approx(kappa(cells), abs=1e-9)
    if found.value < 1:
        slope = approx_fprime(cells, kappa, 1e-7)
        deviation = math.sqrt(max(0.0, float(slope @ (np.diag(cells) - np.outer(cells, cells)) @ slope)) / n)
        wide = 1.959963984540054 * deviation
        low, high = max(-1.0, found.value - wide), min(1.0, found.value + wide)
        assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)


def test_kappa_by_hand() -> None:
    """20 yes–yes, 5 yes–no, 10 no–yes, 15 no–no: agreement 0.7, chance 0.5, κ 0.4."""
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohens_kappa(a, b).value == pytest.approx(0.4)
    whole = cohens_kappa([0, 1] * 10, [0, 1] * 10)
    assert (whole.value, whole.high) == (1.0, 1.0)
    assert whole.low == pytest.approx((wilson(20, 20).low - 0.5) / 0.5)
    assert math.isnan(cohens_kappa([1, 1], [1, 1]).value)
    assert math.isnan(cohens_kappa([], []).value)


def test_bootstraps_cover() -> None:
    """Of 300 samples of 80 items each, the true mean difference (0.2), and the true ratio (2), are inside about 95
    times of 100; the percentile method is a little narrow."""
    rng = np.random.default_rng(0)
    mean = ratio = 0
    for i in range(300):
        a, b = rng.normal(size=80), rng.normal(0.2, size=80)
        found = paired_bootstrap(a, b, seed=i, resamples=400)
        mean += found.low <= 0.2 <= found.high
        whole = rng.integers(1, 20, size=80).astype(float)
        share = bootstrap_ratio(rng.poisson(2 * whole).astype(float), whole, seed=i, resamples=400)
        ratio += share.low <= 2 <= share.high
    assert 0.90 <= mean / 300 <= 0.98
    assert 0.90 <= ratio / 300 <= 0.98
