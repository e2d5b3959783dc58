"""Power: exact sums, scipy's distributions, and simulated tests at the returned number of prompts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from support.frozen import refuse_changes
from twofold.statistics import mcnemar
from twofold.statistics.power import (
    EXACT,
    Design,
    Means,
    PairedShares,
    UnpairedShares,
    difference_of,
    prompts_for,
)


@pytest.mark.parametrize(
    ("n", "apart", "gain", "level"), [(60, 0.4, 0.2, 0.05), (41, 1.0, 0.3, 0.01), (30, 0.2, 0, 0.2)]
)
def test_mcnemars_power_is_the_sum_over_all_outcomes(n: int, apart: float, gain: float, level: float) -> None:
    expected = 0.0
    for m in range(n + 1):
        k = np.arange(m + 1)
        rejects = 2 * stats.binom.cdf(np.minimum(k, m - k), m, 0.5) <= level
        expected += stats.binom.pmf(m, n, apart) * stats.binom.pmf(k, m, (1 + gain / apart) / 2)[rejects].sum()
    assert PairedShares(apart).power(n, gain, level) == pytest.approx(expected, abs=1e-10)
    assert PairedShares(apart).power(n, -gain, level) == pytest.approx(expected, abs=1e-10)


def test_the_exact_sum_goes_over_into_the_approximation() -> None:
    design = PairedShares(0.2)
    assert design.power(EXACT + 1, 0.008, 0.05) == pytest.approx(design.power(EXACT, 0.008, 0.05), abs=0.003)
    assert PairedShares(1.0).power(EXACT + 1, 1.0, 0.05) == 1.0
    assert PairedShares(1e-6).power(EXACT + 1, 1e-6, 0.05) == pytest.approx(0, abs=1e-9)  # no prompt sets them apart


def test_designs_stay_as_they_are() -> None:
    refuse_changes(PairedShares(0.2), UnpairedShares(0.3), Means(1.0), slots=True)


@pytest.mark.parametrize("unpaired", [False, True])
def test_students_power_is_that_of_the_noncentral_t(unpaired: bool) -> None:
    for n, size in ((10, 1.0), (20, 0.5), (200, 0.2)):
        df = 2 * (n - 1) if unpaired else n - 1
        t, shift = stats.t.ppf(0.975, df), size * math.sqrt(n / (2 if unpaired else 1))
        theirs = stats.nct.sf(t, df, shift) + stats.nct.cdf(-t, df, shift)
        assert Means(2.0, unpaired).power(n, 2 * size, 0.05) == pytest.approx(theirs, abs=0.003)


def test_two_shares_by_hand() -> None:
    """Lehr's rule for 80% at 5%: about 16 · p̄ (1 − p̄) / D² each; the z-test of 50% and 60% needs 385."""
    assert prompts_for(UnpairedShares(0.5), 0.1) == 385
    assert UnpairedShares(0.5).power(385, 0.1, 0.05) == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize(
    ("design", "difference"), [(PairedShares(0.25), 0.05), (UnpairedShares(0.3), 0.1), (Means(1.0), 0.3)]
)
def test_the_number_and_the_difference_are_each_others_inverse(design: Design, difference: float) -> None:
    n = prompts_for(design, difference)
    assert n is not None
    assert design.power(n, difference, 0.05) >= 0.8 > design.power(n - 1, difference, 0.05)
    back = difference_of(design, n)
    assert back is not None
    assert difference * 0.99 < back <= difference
    more, strict = prompts_for(design, difference, power=0.95), prompts_for(design, difference, level=0.01)
    assert more is not None
    assert strict is not None
    assert min(more, strict) > 1.3 * n


def test_what_cannot_be_shown_has_no_number() -> None:
    assert prompts_for(PairedShares(0.2), 1e-6) is None
    assert difference_of(PairedShares(0.3), 10) is None
    with pytest.raises(ValueError, match="discordance"):
        PairedShares(0.1).power(100, 0.2, 0.05)


def test_a_discordance_follows_from_the_correlation() -> None:
    """50% and 60%, independent: 0.5 · 0.4 + 0.6 · 0.5. Fully alike, only the difference is left."""
    assert PairedShares.of_correlation(0.5, 0.1, 0.0).discordance == pytest.approx(0.5)
    assert PairedShares.of_correlation(0.5, 0.1, 0.999).discordance == 0.1
    assert Means.of_correlation(2.0, 0.5) == Means(2.0)


def test_mcnemars_test_rejects_as_often_as_asked() -> None:
    """600 evaluations at the returned n, by the test that `evaluate` makes: 80% to within three standard errors."""
    apart, gain, rng, shown = 0.3, 0.1, np.random.default_rng(0), 0
    n = prompts_for(PairedShares(apart), gain)
    assert n is not None
    for _ in range(600):
        draw = rng.random(n)
        a, b = draw < (apart - gain) / 2, (draw >= (apart - gain) / 2) & (draw < apart)
        shown += mcnemar(a.tolist(), b.tolist()).p_value <= 0.05
    assert shown / 600 == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / 600))


def test_students_and_the_z_test_reject_as_often_as_asked() -> None:
    rng, many = np.random.default_rng(1), 4000
    n = prompts_for(Means(1.0), 0.5)
    assert n is not None
    rejected = stats.ttest_1samp(rng.normal(0.5, 1, (many, n)), 0, axis=1).pvalue <= 0.05
    assert rejected.mean() == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / many))
    n = prompts_for(UnpairedShares(0.4), 0.15)
    assert n is not None
    a, b = rng.binomial(n, 0.4, many) / n, rng.binomial(n, 0.55, many) / n
    z = (b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    assert (np.abs(z) > stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / many))
