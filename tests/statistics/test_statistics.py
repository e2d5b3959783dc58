"""Every figure of `twofold.statistics` against scipy on random inputs, and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from twofold.statistics import (
    Estimate,
    bootstrap_ratio,
    clustered_mean,
    clustered_share,
    holm,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_bootstrap_p,
    sign_flips,
    sign_test,
    wilson,
)

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(n=st.integers(1, 5000), share=st.floats(0, 1), level=LEVELS)
@settings(max_examples=100, deadline=None)
def test_wilson_is_scipys(n: int, share: float, level: float) -> None:
    count = round(share * n)
    ours, theirs = wilson(count, n, level), stats.binomtest(count, n).proportion_ci(level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_by_hand() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert wilson(0, 10).high == pytest.approx(1.959964**2 / (10 + 1.959964**2), rel=1e-6)
    assert wilson(3, 4).as_dict() == {
        "value": 0.75, "low": pytest.approx(0.30064, abs=1e-5), "high": pytest.approx(0.95442, abs=1e-5),
        "n": 4, "count": 3, "method": "Wilson 95%",
    }  # fmt: skip


def test_wilson_of_nothing_knows_nothing() -> None:
    empty = wilson(0, 0)
    assert math.isnan(empty.value)
    assert (empty.low, empty.high) == (0.0, 1.0)


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="count 5"):
        wilson(5, 4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=300))
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_scipys_binomial_test(verdicts: list[tuple[bool, bool]]) -> None:
    test = mcnemar([a for a, _ in verdicts], [b for _, b in verdicts])
    only_a, only_b = verdicts.count((True, False)), verdicts.count((False, True))
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert (test.only_a, test.only_b, test.n) == (only_a, only_b, len(verdicts))
    assert test.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand() -> None:
    a, b = [True] + [False] * 9, [False] + [True] * 9
    assert mcnemar(a, b).p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(a, a).p_value == 1.0
    assert mcnemar([True] * 4000, [False] * 4000).p_value == 0.0


def test_mcnemar_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([True, False], [True])


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60), LEVELS)
@settings(max_examples=100, deadline=None)
def test_mean_interval_is_scipys_t(values: list[float], level: float) -> None:
    ours, scale = mean_interval(values, level), stats.sem(values)
    if scale > 1e-6:
        low, high = stats.t.interval(level, len(values) - 1, np.mean(values), scale)
        assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 30, 1000, 1001, 1002, 5000])
def test_mean_interval_width_at_every_size(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n).tolist()
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
    assert mean_interval(values).high - mean_interval(values).low == pytest.approx(high - low, rel=1e-9)


def test_mean_interval_of_one_value_is_unbounded() -> None:
    assert mean_interval([2.0]) == Estimate(2.0, -math.inf, math.inf, 1, None, "Student t 95%")


def test_paired_bootstrap_over_items_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(400) < 0.4
    b = rng.random(400) < 0.6
    ours = paired_bootstrap(a, b, seed=3, resamples=4000)
    difference = (b.astype(float) - a,)
    theirs = stats.bootstrap(difference, np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert ours.value == pytest.approx(b.mean() - a.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours == paired_bootstrap(a, b, seed=3, resamples=4000)


def test_paired_bootstrap_over_seeds_is_wider_when_seeds_differ() -> None:
    b = np.repeat([[0.0], [0.2], [0.4], [0.6]], 50, axis=1)
    both = paired_bootstrap(np.zeros_like(b), b, seed=0)
    assert both.value == pytest.approx(0.3)
    assert both.low < 0.15
    assert both.high > 0.45
    items = paired_bootstrap(np.zeros(50), b.mean(0), seed=0)
    assert (items.low, items.high) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], []), ([[[1.0]]], [[[1.0]]])])
def test_paired_bootstrap_refuses_other_shapes(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        paired_bootstrap(a, b)


def test_paired_bootstrap_refuses_nan() -> None:
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap([1.0], [math.nan])


def test_bootstrap_p_is_small_exactly_where_the_interval_leaves_zero_out() -> None:
    rng = np.random.default_rng(2)
    a = rng.random((4, 200)) < 0.5
    better, same = a | (rng.random((4, 200)) < 0.2), a ^ (rng.random((4, 200)) < 0.2)
    assert paired_bootstrap(a, better).low > 0
    assert paired_bootstrap_p(a, better, resamples=999) == pytest.approx(2 / 1000)
    apart = paired_bootstrap(a, same)
    assert apart.low < 0 < apart.high
    assert paired_bootstrap_p(a, same, resamples=999) > 0.05
    assert paired_bootstrap_p(a, a) == 1


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.6: times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.6, never falling."""
    assert holm([0.03, 0.6, 0.01, 0.02]) == pytest.approx([0.06, 0.6, 0.04, 0.06])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []
    with pytest.raises(ValueError, match="0 … 1"):
        holm([1.2])


def test_bootstrap_ratio_is_of_sums_and_repeats() -> None:
    found = bootstrap_ratio([1.0, 2.0, 3.0, 0.0], [2.0, 4.0, 6.0, 4.0])
    assert (found.value, found.n) == (0.375, 4)
    assert 0 <= found.low < found.value < found.high <= 0.5
    assert bootstrap_ratio([1.0, 2.0, 3.0, 0.0], [2.0, 4.0, 6.0, 4.0]) == found
    alike = "bootstrap over items 95%, all equal"
    assert bootstrap_ratio([1.0] * 9, [4.0] * 9) == Estimate(0.25, 0.25, 0.25, 9, None, alike)
    assert bootstrap_ratio([0.0], [0.0]).value == 0
    with pytest.raises(ValueError, match="must be alike"):
        bootstrap_ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_bootstrap_ratio_is_as_wide_as_its_level_says(level: float) -> None:
    """Of 400 items that are worth 1, half of them all of it: a mean, which is normal to within a resample's noise."""
    found = bootstrap_ratio([1.0, 0.0] * 200, [1.0] * 400, resamples=20_000, level=level)
    half = stats.norm.ppf((1 + level) / 2) * math.sqrt(0.25 / 400)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=2.5e-3)
    assert found.method == f"bootstrap over items {level:.0%}, BCa"


def test_a_share_of_singletons_is_wilsons() -> None:
    counts = [1] * 30 + [0] * 20
    found, plain = clustered_share(counts, [1] * 50), wilson(30, 50)
    assert (found.value, found.n, found.count) == (0.6, 50, 30)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=2e-3)


def test_clusters_that_agree_count_once() -> None:
    """Ten observations each, all alike: as sure as one of each, but for the small-sample factor."""
    found, plain = clustered_share([10] * 30 + [0] * 20, [10] * 50), wilson(30, 50)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=2e-3)
    assert clustered_share([10] * 5, [10] * 5).low == wilson(5, 5).low


def test_a_share_of_four_clusters_by_hand() -> None:
    """6 of 10. Around p = 0.6 the clusters stand at 1.2, −0.2, 0.2 and −1.2: squares 2.96, times 4/3 (Bessel), over
    n·p·(1 − p) = 2.4, is the design effect 1.6444: Wilson's interval of 10/1.6444 = 6.0811 observations."""
    found, n, z = clustered_share([3, 1, 2, 0], [3, 2, 3, 2]), 10 / (2.96 * 4 / 3 / 2.4), 1.959963985
    middle, half = (0.6 + z * z / (2 * n), z * math.sqrt(0.24 / n + z * z / (4 * n * n)))
    assert n == pytest.approx(6.0811, abs=1e-4)
    assert (found.value, found.n, found.count) == (0.6, 10, 6)
    assert (found.low, found.high) == pytest.approx(
        ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    )


def test_clustered_interval_covers() -> None:
    """Of 400 samples of 60 clusters, whose members share a coin: the true share ½ is inside about 95 times of 100."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        share = rng.beta(1, 1, size=60)
        totals = rng.integers(1, 11, size=60)
        e = clustered_share(rng.binomial(totals, share).tolist(), totals.tolist())
        inside += e.low <= 0.5 <= e.high
    assert 0.92 <= inside / 400 <= 0.98


def test_sign_test_of_clusters() -> None:
    """Four clusters mostly right, one mostly wrong, one split: 2·(1 + 5)/32."""
    found = sign_test([3, 2, 1, 5, 0, 1], [3, 3, 1, 6, 2, 2])
    assert (found.only_b, found.only_a, found.n) == (4, 1, 6)
    assert found.p_value == pytest.approx(2 * (1 + 5) / 32)


@pytest.mark.parametrize("size", [3, 9, 40])
def test_sign_flips_are_scipys_permutation_test(size: int) -> None:
    noise = np.random.default_rng(size)
    a, b = noise.normal(size=size), noise.normal(0.4, size=size)
    found = sign_flips(a, b)
    expected = stats.permutation_test(
        (b - a,), np.mean, permutation_type="samples", n_resamples=100_000, rng=np.random.default_rng(0)
    ).pvalue
    assert found.p_value == pytest.approx(expected, abs=1e-12 if size < 15 else 0.01)
    assert (found.only_a, found.only_b) == (int((b < a).sum()), int((b > a).sum()))
    assert found.test == ("sign flips, exact" if size < 15 else "sign flips, 20000 random")
    assert sign_flips(a, b) == found


def test_what_no_random_flip_reaches_is_not_impossible() -> None:
    """All of 60 differences are alike: none of 2⁶⁰ / 2 flips comes as far, and what was seen counts as one of them."""
    assert sign_flips([0.0] * 60, [1.0] * 60, flips=999).p_value == 1 / 1000
    assert sign_flips([0.0] * 60, [1.0] * 60).p_value == 1 / 20_001
    assert sign_flips([0.0] * 14, [1.0] * 14).p_value == 2 / 2**14


def test_sign_flips_of_nothing() -> None:
    same = sign_flips([1.0, 2.0], [1.0, 2.0])
    assert (same.p_value, same.only_a, same.only_b, same.n) == (1.0, 0, 0, 2)
    with pytest.raises(ValueError, match="alike"):
        sign_flips([1.0], [1.0, 2.0])


def test_a_clustered_mean_of_singletons_is_students() -> None:
    values = np.random.default_rng(0).normal(size=30)
    ours, plain = clustered_mean(values, np.ones(30)), mean_interval(values.tolist())
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((plain.value, plain.low, plain.high, 30))
    assert clustered_mean([3.0], [2]).low == -math.inf
    assert math.isnan(clustered_mean([], []).value)


def test_observations_that_repeat_their_cluster_count_once() -> None:
    values = np.random.default_rng(1).normal(size=20)
    once, many = clustered_mean(values, np.ones(20)), clustered_mean(5 * values, np.full(20, 5))
    assert (many.low, many.high) == pytest.approx((once.low, once.high))
    assert (once.n, many.n) == (20, 100)


def test_a_clustered_mean_covers() -> None:
    """Clusters of 1 to 6 observations that share half of their variance; the true mean is 0."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(400):
        counts = rng.integers(1, 7, size=40)
        sums = [float(rng.normal() * n + rng.normal(size=n).sum()) for n in counts]
        held += (e := clustered_mean(sums, counts)).low < 0 < e.high
    assert 0.92 < held / 400 < 0.98
