"""Figures of `twofold.statistics` by hand: at the ends of what they take, and with what is taken by default."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from scipy import stats

from twofold.statistics import (
    Estimate,
    PairedTest,
    bootstrap_ratio,
    clustered_mean,
    clustered_share,
    cohens_kappa,
    holm,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_bootstrap_p,
    sign_flips,
    sign_test,
    two_proportions,
    weighted_share,
    wilson,
    win_rate,
)

NORMAL = np.random.default_rng(7).normal(size=400)
NORMAL = (NORMAL - NORMAL.mean()) / NORMAL.std()  # mean 0 and spread 1 exactly


def ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


@pytest.mark.parametrize("figure", [wilson(3, 4), mcnemar([True], [False]), win_rate(1, 2, 3)])
def test_a_figure_is_a_value(figure: Any) -> None:
    """It can stand in a set, nothing of it changes, and nothing can be hung on it."""
    assert len({figure, figure}) == 1
    name = next(iter(type(figure).__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(figure, name, 1)
    assert not hasattr(figure, "__dict__")


def test_an_estimate_is_read_whatever_stands_beside_it() -> None:
    told = {"value": "0.5", "low": 0, "high": 1, "n": 4.0, "count": 2.0, "name": "other"}
    read = Estimate.from_dict(told)
    assert read == Estimate(0.5, 0.0, 1.0, 4, 2, "")
    assert [type(x) for x in (read.low, read.n, read.count)] == [float, int, int]
    assert Estimate.from_dict({**told, "count": None, "method": None}) == Estimate(0.5, 0.0, 1.0, 4, None, "")
    assert Estimate.from_dict(mean_interval([1.0, 2.0]).as_dict()) == mean_interval([1.0, 2.0])
    assert "count" not in mean_interval([1.0, 2.0]).as_dict()
    for key in ("value", "low", "high", "n"):
        with pytest.raises(KeyError, match=key):
            Estimate.from_dict({k: v for k, v in told.items() if k != key})
    with pytest.raises(ValueError, match="many"):
        Estimate.from_dict({**told, "value": "many"})


def test_a_paired_test_as_it_stands_in_results() -> None:
    told = mcnemar([True, True, False], [False, True, False]).as_dict()
    assert told == {"only_a": 1, "only_b": 0, "p_value": 1.0, "n": 3, "test": "McNemar exact"}


def test_a_win_rate_by_hand() -> None:
    found = win_rate(3, 2, 5, level=0.8)
    assert (found.half_ties, found.no_ties, found.wins) == (0.4, 3 / 8, wilson(3, 10, 0.8))
    assert win_rate(3, 2, 5).wins == wilson(3, 10, 0.95)
    ties, none = win_rate(0, 3, 0), win_rate(0, 0, 0)
    assert (ties.half_ties, ties.wins.value) == (0.5, 0.0)
    assert [math.isnan(x) for x in (ties.no_ties, none.half_ties, none.no_ties)] == [True] * 3


def test_nothing_seen_and_one_thing_seen() -> None:
    unknown = (0.0, 1.0), (-math.inf, math.inf), (-1.0, 1.0)
    for found, limits, count, method in (
        (wilson(0, 0, 0.9), unknown[0], 0, "Wilson 90%"),
        (clustered_share([], []), unknown[0], 0, "Wilson, clustered, 95%"),
        (clustered_share([0, 0], [0, 0], 0.9), unknown[0], 0, "Wilson, clustered, 90%"),
        (mean_interval([], 0.9), unknown[1], None, "Student t 90%"),
        (clustered_mean([0.0], [0], 0.9), unknown[1], None, "Student t over clusters 90%"),
        (cohens_kappa([], [], 0.9), unknown[2], None, "Cohen's κ, asymptotic 90%"),
    ):
        assert math.isnan(found.value)
        assert (ends(found), found.n, found.count, found.method) == (limits, 0, count, method)
    assert mean_interval([2.0]) == Estimate(2.0, -math.inf, math.inf, 1, None, "Student t 95%")
    once = clustered_mean([6.0], [4])
    assert once == Estimate(1.5, -math.inf, math.inf, 4, None, "Student t over clusters 95%")


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, math.nan])
def test_a_level_is_a_probability_of_neither_0_nor_1(level: float) -> None:
    for figure in (lambda: wilson(1, 2, level), lambda: mean_interval([1.0, 2.0], level)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            figure()


REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("is not in 0 … 2", lambda: wilson(3, 2)),
    ("is not in 0 … 2", lambda: wilson(-1, 2)),
    ("0 … its total", lambda: clustered_share([1, 3], [1, 2])),
    ("0 … its total", lambda: clustered_share([-1], [2])),
    ("longer", lambda: clustered_share([1], [1, 1])),
    ("longer", lambda: sign_test([1], [1, 1])),
    ("longer", lambda: mcnemar([True], [True, False])),
    ("longer", lambda: cohens_kappa([1], [1, 2])),
    ("alike", lambda: sign_flips([[1.0]], [[1.0]])),
    ("alike", lambda: sign_flips([1.0], [1.0, 2.0])),
    ("finite", lambda: sign_flips([math.inf], [1.0])),
    ("counts must be", lambda: two_proportions(1, 0, 1, 1)),
    ("counts must be", lambda: two_proportions(0, 0, 1, 1)),
    ("counts must be", lambda: two_proportions(1, 1, 0, 0)),
    ("counts must be", lambda: two_proportions(2, 1, 1, 1)),
    ("counts must be", lambda: two_proportions(1, 1, 2, 1)),
    ("counts must be", lambda: two_proportions(-1, 1, 1, 1)),
    ("counts must be", lambda: two_proportions(1, 1, -1, 1)),
    ("0 … 1", lambda: holm([0.5, -0.1])),
    ("0 … 1", lambda: holm([1.5])),
    ("not empty", lambda: bootstrap_ratio([], [])),
    ("alike", lambda: bootstrap_ratio([[1.0]], [[1.0]])),
    ("alike", lambda: bootstrap_ratio([1.0], [1.0, 2.0])),
    ("not empty", lambda: paired_bootstrap([], [])),
    ("alike", lambda: paired_bootstrap_p([1.0], [1.0, 2.0])),
    ("finite", lambda: clustered_mean([math.nan], [1])),
]


@pytest.mark.parametrize(("message", "figure"), REFUSED)
def test_what_is_no_sample_is_refused(message: str, figure: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        figure()


def test_the_last_of_what_is_taken() -> None:
    assert (wilson(0, 1).value, wilson(1, 1).value) == (0, 1)
    assert clustered_share([0, 2], [0, 2]).value == 1
    assert two_proportions(0, 1, 1, 1) == (math.inf, 0.0)
    assert two_proportions(1, 1, 0, 1) == (-math.inf, 0.0)
    assert two_proportions(2, 2, 1, 1) == (0.0, 1.0)
    assert holm([0.0, 1.0]) == [0.0, 1.0]


def test_a_clustered_share_by_hand() -> None:
    """Clusters that are all half right vary less than coins would: the design effect is no less than 1. A cluster of
    nothing is none, one alone is one observation, and where all succeed clusters count."""
    assert ends(clustered_share([1] * 10, [2] * 10)) == pytest.approx(ends(wilson(10, 20)), rel=1e-12)
    some = clustered_share([3, 1, 2, 0], [3, 2, 3, 2], 0.9)
    assert ends(clustered_share([3, 0, 1, 2, 0], [3, 0, 2, 3, 2], 0.9)) == ends(some)
    assert (some.n, some.count, some.method) == (10, 6, "Wilson, clustered, 90%")
    assert ends(clustered_share([3, 2, 0], [3, 2, 0])) == ends(wilson(2, 2))
    assert ends(clustered_share([0, 0], [3, 2])) == ends(wilson(0, 2))
    z2 = 1.959963984540054**2
    half = math.sqrt(z2) / (1 + z2) * math.sqrt(3 / 16 + z2 / 4)
    middle = (3 / 4 + z2 / 2) / (1 + z2)
    assert ends(clustered_share([3], [4])) == pytest.approx((middle - half, middle + half), rel=1e-12)


def test_a_sign_test_by_hand() -> None:
    """2 of 3 is better, 1 of 3 worse, 1 of 2 neither: 3 better, 0 worse, p = 2/2³."""
    assert sign_test([2, 2, 1, 2], [3, 3, 2, 2]) == PairedTest(0, 3, 1 / 4, 4, "sign test over clusters, exact")
    assert sign_test([1, 0, 2], [3, 1, 3]) == PairedTest(2, 1, 1.0, 3, "sign test over clusters, exact")


def test_sign_flips_by_hand() -> None:
    """0.1, 0.2 and −0.3: every sign comes as far as 0, whatever rounding says. Of 1, 2, 4 only all alike come as far as
    7; items that are tied take no part. 0.3, 0.1, 0.2, −0.3, 0.3 add up to 0.6: 0.3 or less must change its sign, which
    seven subsets do, and their mirrors."""
    assert sign_flips([0.0] * 3, [0.1, 0.2, -0.3]).p_value == 1.0
    found = sign_flips([0.0] * 20, [1.0, 2.0, 4.0, *[0.0] * 17])
    assert found == PairedTest(0, 3, 2 / 8, 20, "sign flips, exact")
    assert sign_flips([1.0, 0.0], [0.0, 3.0]) == PairedTest(1, 1, 1.0, 2, "sign flips, exact")
    assert sign_flips([0.0] * 5, [0.3, 0.1, 0.2, -0.3, 0.3]).p_value == 14 / 32


def test_random_flips_are_those_of_their_seed() -> None:
    """15 that differ are drawn, 14 are counted; what was seen is one of the draws."""
    zero, b = [0.0] * 15, [1.0, 2.0, -1.5] * 5
    found = sign_flips(zero, b, flips=99)
    assert found.test == "sign flips, 99 random"
    assert found == sign_flips(zero, b, flips=99, seed=0) != sign_flips(zero, b, flips=99, seed=1)
    assert (found.p_value * 100) % 1 == pytest.approx(0, abs=1e-9)
    assert sign_flips([0.0] * 14, b[:14]).test == "sign flips, exact"


def test_two_proportions_by_hand() -> None:
    """60 of 100 and 140 of 200: 0.1 over √(0.24/100 + 0.21/200) = 0.0587367."""
    z, p = two_proportions(60, 100, 140, 200)
    assert z == pytest.approx(0.1 / math.sqrt(0.00345), rel=1e-12)
    assert p == pytest.approx(2 * stats.norm.sf(z), rel=1e-12)


def test_kappa_of_fifty_by_hand() -> None:
    """Cells 20, 5, 10, 15 of 50, habits ½, ½ and 0.6, 0.4: agreement 0.7, chance 0.5, κ 0.4. Equation 13: agreements
    give 0.4·(0.5 − 1.1·0.3)² + 0.3·(0.5 − 0.9·0.3)² = 0.02743, the rest 0.3²·(0.1·1.1² + 0.2·0.9²) = 0.02547; less
    (0.35 − 1 + 0.7)² = 0.0025 it is 0.0504, over 50·(1 − 0.5)⁴."""
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    half = stats.norm.ppf(0.95) * math.sqrt(0.0504 / 50) / 0.25
    found = cohens_kappa(a, b, 0.9)
    assert found.value == pytest.approx(0.4, rel=1e-12)
    assert ends(found) == pytest.approx((0.4 - half, 0.4 + half), rel=1e-12)
    assert (found.n, found.count, found.method) == (50, None, "Cohen's κ, asymptotic 90%")


def test_kappa_at_its_ends() -> None:
    """Agreement throughout has Wilson's interval at the same chance, opposition ends at −1; one label has no room."""
    whole = cohens_kappa([0, 1, 1, 1], [0, 1, 1, 1], 0.9)
    assert (whole.value, whole.high, whole.n, whole.method) == (1.0, 1.0, 4, "Cohen's κ, asymptotic 90%")
    assert whole.low == pytest.approx((wilson(4, 4, 0.9).low - 10 / 16) / (6 / 16), rel=1e-12)
    none = cohens_kappa([0, 1, 0, 1], [1, 0, 1, 0])
    assert (none.value, *ends(none)) == (-1.0, -1.0, -1.0)
    one = cohens_kappa([1, 1, 1], [1, 1, 1])
    assert math.isnan(one.value)
    assert (*ends(one), one.n) == (-1.0, 1.0, 3)
    wide = cohens_kappa([0, 1, 0, 1, 1], [0, 1, 1, 0, 1])
    assert (wide.value, wide.high) == (pytest.approx(1 / 6), 1.0)  # 0.6 agreed, 0.52 by chance
    assert -1 < wide.low < -0.5


def test_a_clustered_mean_by_hand() -> None:
    """6 of 10: the residuals 1.2, −0.2, 0.2 and −1.2 have squares of 2.96; times 4/3, and t(3) = 3.182446."""
    found = clustered_mean([3, 1, 2, 0], [3, 2, 3, 2])
    half = 3.182446305284263 * math.sqrt(2.96 * 4 / 3) / 10
    assert (found.value, *ends(found)) == pytest.approx((0.6, 0.6 - half, 0.6 + half), rel=1e-9)
    assert (found.n, found.count, found.method) == (10, None, "Student t over clusters 95%")
    assert clustered_mean([3, 1, 2, 0], [3, 2, 3, 2], 0.5).high == pytest.approx(
        0.6 + half * stats.t.ppf(0.75, 3) / stats.t.ppf(0.975, 3), rel=1e-9
    )


@pytest.mark.parametrize("level", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 40, 1001, 2000])
def test_quantiles_of_t_to_their_last_digits(level: float, df: int) -> None:
    """n values of spread 1 about 0; the series beyond 1000 degrees of freedom errs by df⁻⁴."""
    values = np.resize([1.0, -1.0], df + 1)
    found = mean_interval(values.tolist(), level)
    scale = values.std(ddof=1) / math.sqrt(df + 1)
    assert (found.high - found.value) / scale == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=3e-14)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_bootstrap_of_the_mean_is_as_wide_as_its_level_says(level: float) -> None:
    """400 differences of spread 1 about 0.1: the mean of a resample is normal, 1/20 wide."""
    found = paired_bootstrap(-NORMAL, np.full(400, 0.1), resamples=10_000, level=level)
    half = stats.norm.ppf((1 + level) / 2) / 20
    assert ends(found) == pytest.approx((0.1 - half, 0.1 + half), abs=3e-3)
    assert found.value == pytest.approx(0.1)
    assert (found.n, found.count, found.method) == (400, None, f"paired bootstrap over items {level:.0%}, BCa")


def test_what_a_bootstrap_takes_by_default() -> None:
    a, b = NORMAL.reshape(4, 100), NORMAL.reshape(4, 100)[::-1] + 0.1
    plain, told = paired_bootstrap(a, b), {"seed": 0, "resamples": 2000, "level": 0.95}
    assert plain == paired_bootstrap(a, b, **told)
    assert plain != paired_bootstrap(a, b, seed=1)
    assert (plain.n, plain.method) == (400, "paired bootstrap over seeds and items 95%, percentile")
    part, whole = np.abs(NORMAL), np.abs(NORMAL) + 1
    assert bootstrap_ratio(part, whole) == bootstrap_ratio(part, whole, **told) != bootstrap_ratio(part, whole, seed=1)
    assert paired_bootstrap_p([0.0] * 9, [1.0] * 9) == 2 / 10_001
    few = NORMAL[:40]
    drawn = [paired_bootstrap_p(few, -few, resamples=200, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_p_of_a_bootstrap_by_hand() -> None:
    """A mean 1.5 of its own spreads from 0 has 2·Φ(−1.5) = 0.1336. Of one item, 1 or −1, every resample is alike."""
    found = paired_bootstrap_p(-NORMAL, np.full(400, 0.075), resamples=10_000)
    assert found == pytest.approx(2 * stats.norm.sf(1.5), abs=0.01)
    assert paired_bootstrap_p([0.0], [1.0], resamples=9) == paired_bootstrap_p([1.0], [0.0], resamples=9) == 2 / 10
    assert paired_bootstrap_p([0.0], [0.0], resamples=9) == 1.0


def test_seeds_are_drawn_too() -> None:
    """Two seeds that differ by 1: a resample's mean is 0, ½ or 1, a quarter, half and a quarter of them."""
    both = paired_bootstrap([[0.0] * 3] * 2, [[0.0] * 3, [1.0] * 3], level=0.4)
    assert (both.value, *ends(both), both.n) == (0.5, 0.5, 0.5, 6)
    assert ends(paired_bootstrap([[0.0] * 3] * 2, [[0.0] * 3, [1.0] * 3], level=0.6)) == (0.0, 1.0)


def test_a_ratio_of_resampled_sums_by_hand() -> None:
    """Of the items 0 of 0 and 1 of 1 a resample is 0 (nothing twice, a quarter of them) or 1. Of two items a level of
    0.2 is widened to the quantile at 0.32, one of 0.4 to that at 0.15."""
    found = bootstrap_ratio([0.0, 1.0], [0.0, 1.0], level=0.6)
    assert (found.value, *ends(found), found.n) == (1.0, 0.0, 1.0, 2)
    assert ends(bootstrap_ratio([0.0, 1.0], [0.0, 1.0], level=0.2)) == (1.0, 1.0)
    assert ends(bootstrap_ratio([0.0, 1.0], [0.0, 1.0], level=0.4)) == (0.0, 1.0)
    assert bootstrap_ratio([-1.0], [-2.0]) == Estimate(0.5, 0.5, 0.5, 1, None, "bootstrap over items 95%, one only")
    nothing = bootstrap_ratio([1.0, 1.0], [0.0, 0.0], level=0.9)
    assert nothing == Estimate(0.0, 0.0, 0.0, 2, None, "bootstrap over items 90%, all equal")


def test_a_weighted_share_by_hand() -> None:
    """Weights 2, 1, 1 in three clusters, the first succeeds: ½. Around it the clusters stand at 1, −½, −½: squares 1.5,
    times 3/2 over 4 · ¼ is 2.25, and 4 / 2.25 observations; Kish alone has 16/6."""
    found, z = weighted_share([2.0, 0.0, 0.0], [2.0, 1.0, 1.0], 3, 16 / 6), 1.959963984540054
    n = 4 / 2.25
    half = z / (1 + z * z / n) * math.sqrt(0.25 / n + z * z / (4 * n * n))
    assert (found.value, found.low, found.high) == (0.5, pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert (found.n, found.method) == (3, "Wilson, weighted, clustered, 95%")
    alike = weighted_share([1.0] * 4 + [0.0] * 4, [2.0] * 8, 8, 8.0)
    assert (alike.value, alike.low) == (0.25, pytest.approx(wilson(2, 8).low))
    ones = weighted_share([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], 3, 3.0)
    same = clustered_share([1, 0, 1], [1, 1, 1])
    assert (ones.low, ones.high) == pytest.approx((same.low, same.high))
    assert weighted_share([3.0], [3.0], 1, 1.0).low == wilson(1, 1).low
    assert weighted_share([0.0], [0.0], 1, 0.0).n == 0
    assert sign_test([0.1 + 0.2, 0.3], [0.6, 0.3]).only_b == 1  # 0.1 + 0.2 is an even split
