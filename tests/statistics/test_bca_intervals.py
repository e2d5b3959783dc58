"""BCa bootstrap intervals: scipy's, degenerate samples, items of one cluster, and how often they have the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.intervals.coverage import FIGURES, SIZES, coverage, percentile
from twofold.statistics import Estimate, bca_bounds, bootstrap_ratio, by_cluster, paired_bootstrap


def widened(units: int) -> float:
    """The level of a normal quantile that is √(n / (n − 1)) times Student's 97.5% quantile."""
    return 2 * float(stats.norm.cdf(stats.t.ppf(0.975, units - 1) * math.sqrt(units / (units - 1)))) - 1


@pytest.mark.parametrize("units", [8, 30, 200])
def test_a_skewed_ratio_has_scipys_bca_interval_at_the_widened_level(units: int) -> None:
    rng = np.random.default_rng(units)
    whole = np.ceil(rng.lognormal(2, 0.7, units))
    part = whole * rng.exponential(1, units)
    ours = bootstrap_ratio(part, whole, resamples=20_000)
    theirs = stats.bootstrap(
        (part, whole), lambda p, w, axis=-1: p.sum(axis) / w.sum(axis), paired=True, vectorized=True, method="BCa",
        n_resamples=20_000, confidence_level=widened(units), rng=1, batch=2000,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)
    assert ours.method == "bootstrap over items 95%, BCa"
    plain = percentile(part, whole, 0)
    assert ours.low + ours.high > sum(plain) + 0.005 * width, "a BCa interval leans to the long tail"


def test_two_paired_models_have_the_interval_of_their_differences() -> None:
    a, b = np.random.default_rng(0).exponential(1, (2, 40))
    ours, plain = paired_bootstrap(a, b), bootstrap_ratio(b - a, np.ones(40))
    assert (ours.low, ours.high, ours.value) == (plain.low, plain.high, plain.value)
    assert ours.method == "paired bootstrap over items 95%, BCa"
    both = paired_bootstrap([a, a], [b, b])
    assert both.method == "paired bootstrap over seeds and items 95%, percentile"


@pytest.mark.parametrize(
    ("part", "whole", "low", "high", "how"),
    [
        ([3.0], [2.0], 1.5, 1.5, "one only"),
        ([2.0, 2.0], [1.0, 1.0], 2.0, 2.0, "all equal"),
        ([0.0] * 50, [1.0] * 50, 0.0, 0.0, "all equal"),
        ([1.0, 2.0], [1.0, 1.0], 1.0, 2.0, "BCa, 2 are too few for this level"),
        ([1.0, 2.0, 5.0], [1.0, 1.0, 1.0], 1.0, 5.0, "BCa, 3 are too few for this level"),
        ([0.0] * 9 + [3.0], [0.0] * 9 + [2.0], 0.0, 1.5, "percentile"),  # undefined without the last item
    ],
)
def test_a_degenerate_sample_has_the_interval_that_its_method_describes(
    part: list[float], whole: list[float], low: float, high: float, how: str
) -> None:
    found = bootstrap_ratio(part, whole)
    assert (found.low, found.high) == (low, high)
    assert found.method == f"bootstrap over items 95%, {how}"


def test_a_value_beyond_all_draws_still_has_finite_ends() -> None:
    low, high, how = bca_bounds(5.0, np.arange(100.0) / 100, np.array([4.0, 5.0, 6.5] * 4), 0.95)
    assert 0 <= low <= high <= 1
    assert how == "BCa"


def test_items_of_a_cluster_are_resampled_together() -> None:
    """Four answers of each of 25 prompts that are all the same: there are 25 observations, not 100."""
    rewards = np.random.default_rng(3).exponential(1, 25)
    once = bootstrap_ratio(rewards, np.ones(25))
    names = [f"prompt {i % 25}" for i in range(100)]
    often = bootstrap_ratio(np.tile(rewards, 4), np.ones(100), clusters=names)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert (often.n, often.clusters, often.method) == (100, 25, "bootstrap over clusters 95%, BCa")
    assert often.as_dict()["clusters"] == 25
    assert Estimate.from_dict(often.as_dict()) == often
    assert bootstrap_ratio(rewards, np.ones(25), clusters=names[:25]) == once
    assert by_cluster([1, 2, 3, 4.5], ["b", "a", "b", "c"]).tolist() == [4, 2, 4.5]
    with pytest.raises(ValueError, match="not of the same length"):
        bootstrap_ratio([1.0, 2.0], [1.0, 1.0], clusters=["a", "a", "b"])


def test_bca_intervals_have_the_truth_more_often() -> None:
    """60 samples of 20 items each, with the seed of the table in docs/statistics.md."""
    found = {figure.name: (round(figure.before * 60), round(figure.now * 60)) for figure in coverage(60, (20,))}
    assert found == dict(zip(FIGURES, [(52, 54), (49, 52), (56, 56), (57, 58)], strict=True))


@pytest.mark.slow
def test_intervals_cover_as_the_table_says() -> None:
    """Of 500 samples: at 20 items a heavy tail is hardly in the sample."""
    for figure in coverage(500, SIZES):
        assert figure.now >= figure.before - 0.02, figure
        assert figure.now >= {"20": 0.87, "50": 0.88, "200": 0.91}[figure.n], figure
