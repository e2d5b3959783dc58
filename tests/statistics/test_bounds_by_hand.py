"""Ends of BCa intervals and of agreement by hand: quantiles of even draws, levels, clusters and what each is called."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from twofold.statistics import (
    Estimate,
    bca_bounds,
    bootstrap_ratio,
    clustered_mean,
    clustered_share,
    cohens_kappa,
    fleiss_kappa,
    krippendorffs_alpha,
    mean_by_cluster,
    mean_interval,
    mirrored_kappa,
    paired_bootstrap,
    share_by_cluster,
    share_difference,
    weighted_share,
    wilson,
)
from twofold.statistics import raters as module
from twofold.statistics.intervals import by_cluster, finite, repeated, score_bounds
from twofold.statistics.quantiles import normal_quantile, t_quantile

EVEN = np.arange(101) / 100
"""Draws whose quantile at p is p."""
EVENLY = np.array([0.0, 0.5, 1.0] * 4)
"""Twelve figures without a unit each: no acceleration."""


def widened(level: float, units: int) -> float:
    """Student's quantile times √(n / (n − 1))."""
    return float(stats.t.ppf((1 + level) / 2, units - 1)) * math.sqrt(units / (units - 1))


def phi(z: float) -> float:
    return float(stats.norm.cdf(z))


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
def test_an_even_sample_has_the_quantiles_of_its_widened_level(level: float) -> None:
    z = widened(level, 12)
    low, high, how = bca_bounds(0.5, EVEN, EVENLY, level)
    assert (low, high, how) == (pytest.approx(phi(-z), abs=1e-9), pytest.approx(phi(z), abs=1e-9), "BCa")


def test_a_value_above_the_middle_moves_both_ends_twice_as_far() -> None:
    """70 draws are below it, and it is one itself: 70.5 of 101."""
    z, bias = widened(0.5, 12), float(stats.norm.ppf(70.5 / 101))
    low, high, how = bca_bounds(0.7, EVEN, EVENLY, 0.5)
    expected = phi(2 * bias - z), phi(2 * bias + z)
    assert (low, high, how) == (*(pytest.approx(end, abs=1e-9) for end in expected), "BCa")


def test_a_skewed_sample_is_accelerated() -> None:
    """Without a unit 0, 0, 0 or 1: influences of ¼ and −¾, cubes of −1.125, squares of 2.25: a = −1.125/6/2.25^1.5."""
    z, bias, a = widened(0.5, 12), float(stats.norm.ppf(30.5 / 101)), -1.125 / 6 / 3.375
    low, high, _ = bca_bounds(0.3, EVEN, np.array([0.0, 0.0, 0.0, 1.0] * 3), 0.5)
    ends = [phi(bias + (bias + side) / (1 - a * (bias + side))) for side in (-z, z)]
    assert (low, high) == pytest.approx(ends, abs=1e-9)
    turned = bca_bounds(0.7, EVEN, np.array([1.0, 1.0, 1.0, 0.0] * 3), 0.5)
    assert turned[:2] == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_an_acceleration_beyond_bounds_ends_at_the_last_draw() -> None:
    """Below all draws: the bias is that of half a draw, −2.577; and −0.145 · (−2.577 − 4.64) is more than 1."""
    one = np.array([0.0] * 11 + [1.0])
    low, high, _ = bca_bounds(-1.0, EVEN, one, 0.999)
    assert low == 0.0
    a, moved = -(1320 / 1728) / 6 / (132 / 144) ** 1.5, float(stats.norm.ppf(1 / 202)) + widened(0.999, 12)
    assert high == pytest.approx(phi(moved - widened(0.999, 12) + moved / (1 - a * moved)), abs=1e-9)
    mirrored = bca_bounds(2.0, EVEN, 1 - one, 0.999)
    assert mirrored[:2] == (pytest.approx(1 - high, abs=1e-9), 1.0)


def test_draws_that_are_the_sample_are_half_below_it() -> None:
    """To rounding, relative for large values."""
    for scale in (1.0, 1e6):
        draws = np.array([0.0, 1.0 + 9e-10, 1.0 - 9e-10, 2.0]) * scale
        assert bca_bounds(scale, draws, EVENLY, 0.5)[:2] == pytest.approx(
            np.quantile(draws, [phi(-widened(0.5, 12)), phi(widened(0.5, 12))]), rel=1e-12
        )
    apart = bca_bounds(1.0, np.array([0.0, 1.0 + 2e-9, 1.0 - 2e-9, 1.0 - 3e-9]), EVENLY, 0.5)
    bias = float(stats.norm.ppf(0.75))
    assert apart[0] == pytest.approx(
        np.quantile([0.0, 1.0 + 2e-9, 1.0 - 2e-9, 1.0 - 3e-9], phi(2 * bias - widened(0.5, 12))), rel=1e-15
    )


@pytest.mark.parametrize(
    ("units", "level", "how"),
    [
        (1, 0.9, "one only"), (7, 0.9, "BCa, 7 are too few for this level"), (8, 0.9, "BCa"),
        (2, 0.9, "BCa, 2 are too few for this level"),
    ],
)  # fmt: skip
def test_what_an_interval_is_called(units: int, level: float, how: str) -> None:
    estimate = bootstrap_ratio(np.arange(1.0, units + 1), np.ones(units), level=level)
    assert estimate.method == f"bootstrap over items 90%, {how}"
    assert (estimate.n, estimate.clusters, estimate.count) == (units, None, None)


def test_a_figure_that_is_undefined_without_a_unit_has_the_percentile_interval() -> None:
    z = widened(0.5, 12)
    low, high, how = bca_bounds(0.3, EVEN, np.array([math.nan, *[0.5] * 11]), 0.5)
    assert (low, high, how) == (pytest.approx(phi(-z), abs=1e-9), pytest.approx(phi(z), abs=1e-9), "percentile")
    assert bca_bounds(0.3, EVEN, np.array([0.5] * 12), 0.5)[2] == "percentile"
    assert bca_bounds(0.3, EVEN, np.array([math.nan, *[0.5] * 5]), 0.5)[2] == (
        "percentile, 6 are too few for this level"
    )


def test_what_is_refused_is_named_with_its_shape() -> None:
    for work, message in (
        (lambda: bootstrap_ratio([1.0], [1.0, 2.0]), "part (1,) and whole (2,) must be alike, [items], and not empty"),
        (lambda: bootstrap_ratio([1.0, 2.0], [1.0, 2.0], clusters=["a"]),
         "2 items and 1 clusters are not of the same length"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0]),
         "a (1,) and b (2,) must be alike, [items] or [seeds, items], and not empty"),
        (lambda: share_by_cluster([True], ["a", "b"]), "1 values and 2 clusters are not of the same length"),
        (lambda: mean_by_cluster([1.0, 2.0], ["a"]), "2 values and 1 clusters are not of the same length"),
        (lambda: wilson(3, 2), "count 3 is not in 0 … 2"),
        (lambda: clustered_share([2], [1]), "every count must be in 0 … its total"),
        (lambda: finite([math.inf]), "values must be finite"),
        (lambda: normal_quantile(1.0), "level 1.0 is not between 0 and 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as error:  # compared below, whole
            work()
        assert str(error.value) == message


def test_without_clusters_that_repeat_a_figure_is_the_plain_one() -> None:
    right, names = [True, False, True, True], ["a", "b", "c", "d"]
    for clusters in ([], names, ["a"] * 4):
        assert share_by_cluster(right, clusters, 0.9) == wilson(3, 4, 0.9)
        assert mean_by_cluster([1.0, 2.0, 4.0, 8.0], clusters, 0.9) == mean_interval([1.0, 2.0, 4.0, 8.0], 0.9)
    assert share_by_cluster(right, ["a", "a", "b", "c"], 0.9) == clustered_share([1, 1, 1], [2, 1, 1], 0.9)
    assert mean_by_cluster([1.0, 2.0, 4.0, 8.0], ["a", "b", "a", "c"], 0.9) == clustered_mean(
        [5.0, 2.0, 8.0], [2, 1, 1], 0.9
    )
    assert [repeated(c) for c in ([], ["a"], ["a", "a"], ["a", "b"], ["a", "b", "a"])] == [False] * 4 + [True]
    assert by_cluster([1, 2, 4], ["b", "a", "b"]).tolist() == [5, 2]


def test_clusters_are_counted_where_they_are_fewer() -> None:
    share, mean = clustered_share([1, 0, 2], [2, 0, 2], 0.9), clustered_mean([1.0, 2.0], [2, 2], 0.9)
    assert (share.value, share.n, share.count, share.clusters, share.method) == (
        0.75, 4, 3, 2, "Wilson, clustered, 90%",
    )  # fmt: skip
    assert (mean.n, mean.clusters, mean.method) == (4, 2, "Student t over clusters 90%")
    assert clustered_share([1, 0], [1, 1]).clusters is clustered_mean([1.0, 2.0], [1, 1]).clusters is None
    assert weighted_share([1.0, 0.0], [2.0, 2.0], 2, 2.0, 0.9).method == "Wilson, weighted, clustered, 90%"
    nothing = weighted_share([0.0], [0.0], 3, 1.0, 0.8)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n, nothing.count, nothing.method) == (
        0.0, 1.0, 0, 0, "Wilson, weighted, clustered, 80%",
    )  # fmt: skip


def test_a_difference_without_a_width_is_named_by_its_level() -> None:
    one = share_difference(Estimate(-1.0, -1.0, -1.0, 4, None, "m"), 0.9)
    z = 1.6448536269514722
    assert (one.low, one.high) == (-1.0, pytest.approx(-1 + 2 * z * z / (4 + z * z)))
    assert one.method == "score interval of a difference 90%, no unit differs from the others"
    for same in (Estimate(0.0, 0.0, 0.0, 0, None, "m"), Estimate(1.01, 1.01, 1.01, 4, None, "m")):
        assert share_difference(same, 0.9) is same


def test_wilsons_ends_by_hand() -> None:
    """Of 12 with z = 2, ¼: middle (¼ + 2/12)/(4/3) = 5/16, half 1.5 · √(1/64 + 1/144) = 1.5 · √(13)/24."""
    level = 2 * phi(2) - 1
    low, high = score_bounds(0.25, 12, level)
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx((5 / 16, 1.5 * math.sqrt(13) / 24), rel=1e-9)
    assert score_bounds(0.0, 12, level) == (0.0, pytest.approx(0.25))
    assert score_bounds(1.0, 12, level) == (pytest.approx(0.75), 1.0)


@pytest.mark.parametrize(("df", "t"), [(1, 1.0), (2, math.sqrt(2 / 3)), (4, 0.7406970841)])
def test_the_median_of_a_students_deviation(df: int, t: float) -> None:
    """Of one degree of freedom tan(π/4)."""
    assert t_quantile(0.5, df) == pytest.approx(t, rel=1e-9)


def test_kappa_over_clusters_is_called_so() -> None:
    a, b = [1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1]
    found = cohens_kappa(a, b, 0.9, clusters=[0, 0, 1, 1, 2, 2])
    assert (found.n, found.count, found.clusters) == (6, None, 3)
    assert found.method == "Cohen's κ, jackknife over clusters 90%"
    assert cohens_kappa(a, b, 0.9, clusters=range(6)) == cohens_kappa(a, b, 0.9, clusters=[0] * 6)
    assert cohens_kappa(a, b, 0.9).method == "Cohen's κ, asymptotic 90%"


def test_kappa_that_is_undefined_without_a_cluster_has_no_bounds_but_its_own() -> None:
    found = cohens_kappa([1, 1, 0, 0], [1, 1, 0, 1], clusters=[0, 0, 1, 1])
    assert (found.value, found.low, found.high, found.clusters) == (pytest.approx(0.5), -1.0, 1.0, 2)


def agreement(a: Any, b: Any, axis: int = -1) -> Any:
    """Fleiss' κ of two raters with labels 0 and 1."""
    share = (a.mean(axis) + b.mean(axis)) / 2
    chance = share**2 + (1 - share) ** 2
    return ((a == b).mean(axis) - chance) / (1 - chance)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_of_several_raters_is_scipys(level: float) -> None:
    """To within the noise of 2,000 resamples."""
    a = np.array([1] * 30 + [0] * 20)
    b = np.array([1] * 27 + [0] * 3 + [0] * 16 + [1] * 4)
    found = fleiss_kappa(np.stack([a, b], 1).tolist(), level=level)
    theirs = stats.bootstrap(
        (a, b), agreement, paired=True, vectorized=True, method="BCa", n_resamples=20_000, rng=1, batch=4000,
        confidence_level=2 * phi(widened(level, 50)) - 1,
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(float(agreement(a, b)))
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)
    assert (found.n, found.clusters, found.method) == (50, None, f"Fleiss' κ, bootstrap over items {level:.0%}, BCa")


def test_what_agreement_is_called_and_how_often_it_is_drawn() -> None:
    assert module.RESAMPLES == 2000
    rows = [["a", "a"], ["a", "b"], ["b", "b"], ["b", "a"], ["b", "b"], ["a", "a"], ["a", None], [None, None]]
    clusters = [0, 0, 1, 1, 2, 2, 3, 4]
    for figure, name in ((fleiss_kappa, "Fleiss' κ"), (krippendorffs_alpha, "Krippendorff's α")):
        found = figure(rows, clusters=clusters, level=0.9)
        assert (found.n, found.clusters) == (6, 3), "of those that are rated twice"
        assert found.method == f"{name}, bootstrap over clusters 90%, BCa, 3 are too few for this level"
        plain = figure(rows, level=0.9)
        assert (plain.value, plain.n, plain.clusters) == (found.value, 6, None)
        assert plain.method == f"{name}, bootstrap over items 90%, BCa, 6 are too few for this level"
    mirrored = mirrored_kappa([1.0, 0.5, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0], clusters=[0, 0, 1, 2], level=0.9)
    assert mirrored.method.startswith("Cohen's κ, both directions, bootstrap over clusters 90%, ")
    assert (mirrored.n, mirrored.clusters) == (4, 3)


def test_full_agreement_has_wilsons_end_at_its_level() -> None:
    """Of 4 items with labels ½ and ½: (n/(n + z²) − ½)/½; where that is below −1, −1."""
    z = 1.6448536269514722
    found = fleiss_kappa([["a"] * 3, ["b"] * 3] * 2, level=0.9)
    assert (found.value, found.low, found.high) == (1.0, pytest.approx((4 / (4 + z * z) - 0.5) / 0.5), 1.0)
    assert (found.n, found.clusters, found.method) == (4, None, "Fleiss' κ, Wilson 90%")
    grouped = krippendorffs_alpha([["a", "a"], ["b", "b"], ["a", "a"]], clusters=[0, 0, 1], level=0.9)
    assert (grouped.value, grouped.n, grouped.clusters, grouped.method) == (1.0, 3, 2, "Krippendorff's α, Wilson 90%")
    assert fleiss_kappa([*[["a"] * 2] * 9, ["b"] * 2], level=0.99999999).low == -1.0


def test_nothing_to_compare_is_called_so() -> None:
    nothing = fleiss_kappa([], level=0.9)
    assert (nothing.n, nothing.clusters, nothing.method) == (0, None, "Fleiss' κ, bootstrap over items 90%")
    one = krippendorffs_alpha([["a", "a"]] * 3, clusters=[0, 0, 1], level=0.9)
    assert math.isnan(one.value)
    assert (one.low, one.high, one.n, one.clusters) == (-1.0, 1.0, 3, 2)
    assert one.method == "Krippendorff's α, bootstrap over clusters 90%"


def test_alpha_by_hand() -> None:
    """Two items of two, one of three, one of one: coincidences 2·(aa), 1/2 + 1/2 (ab), of seven ratings."""
    found = krippendorffs_alpha([["a", "a"], ["a", "b"], ["b", "b", "b"], ["a"]])
    assert (found.value, found.n) == (pytest.approx(1 - (2 / 7) / (2 * 3 * 4 / (7 * 6))), 3)
    interval = krippendorffs_alpha([[0.0, 0.0], [0.0, 1.0], [0.5, 0.5]], distance="interval")
    # apart 2 of 6; by chance 3 zeros, 1 one and 2 halves: 2 · (3·1 + 3·2/4 + 1·2/4) of 30
    assert interval.value == pytest.approx(1 - (2 / 6) / (10 / 30))
    assert interval.method.startswith("Krippendorff's α, interval, bootstrap over items 95%, ")
