"""Power by hand: designs of round numbers, what searches return, and the approximations at their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from scipy import stats

from twofold.statistics import power as module
from twofold.statistics.power import (
    Means,
    PairedShares,
    UnpairedShares,
    difference_of,
    prompts_for,
)

Z = 1.959963984540054


@dataclass(frozen=True)
class Line:
    """A power of n times the difference, by `per`; levels below 5% halve it."""

    per: float
    largest: float = math.inf

    def power(self, n: int, difference: float, level: float) -> float:
        return min(1.0, n * difference / self.per) * (0.5 if level < 0.05 else 1)


@pytest.mark.parametrize(
    ("per", "power", "n"),
    [(100, 0.8, 80), (100, 0.64, 64), (100, 0.65, 65), (100, 0.63, 63), (100, 0.33, 33), (100, 0.02, 2), (1, 0.5, 2),
     (100, 0.031, 4), (100, 1.0, 100)],
)  # fmt: skip
def test_the_smallest_number_with_a_power(per: float, power: float, n: int) -> None:
    """Two at least."""
    assert prompts_for(Line(per), 1.0, power=power) == n


def test_a_search_has_its_usual_power_and_level() -> None:
    assert prompts_for(Line(100), 1.0) == 80
    assert prompts_for(Line(100), 1.0, power=0.4, level=0.04) == 80
    assert difference_of(Line(100), 10) == pytest.approx(8.0)
    assert difference_of(Line(100), 10, power=0.4, level=0.04) == pytest.approx(8.0)


@pytest.mark.parametrize(("per", "n"), [(125, 100), (124, 100), (80, 64), (126.5, None), (2000, None)])
def test_a_search_ends_at_the_most_prompts(monkeypatch: pytest.MonkeyPatch, per: float, n: int | None) -> None:
    """100 of them may be the answer, 101 may not."""
    assert module.MOST == 10**9
    monkeypatch.setattr(module, "MOST", 100)
    assert prompts_for(Line(per), 1.0) == n


@pytest.mark.parametrize(
    ("design", "n", "difference"),
    [
        (Line(1000), 10, 80.0), (Line(1000), 1000, 0.8), (Line(10, 1.0), 10, 0.8), (Line(10, 0.8), 10, 0.8),
        (Line(10, 0.75), 10, None), (Line(1e12), 2, 4e11), (Line(1e14), 2, None),
    ],
)  # fmt: skip
def test_the_smallest_difference_that_shows(design: Line, n: int, difference: float | None) -> None:
    """Up to the largest that there is; beyond 10¹² nothing is looked for."""
    smallest = difference_of(design, n)
    assert smallest == (None if difference is None else pytest.approx(difference, rel=1e-12))


def test_beyond_the_exact_sum_the_normal_distribution_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 prompts, a quarter apart, a gain of 0.1: 40 more, and 40 − 1 of them beyond 1.96 · √100, over √(400 · 0.24);
    of 16 prompts the sum over all outcomes is taken."""
    design = PairedShares(0.25)
    monkeypatch.setattr(module, "EXACT", 16)
    expected = stats.norm.cdf((40 - 1 - Z * 10) / math.sqrt(96))
    assert design.power(400, 0.1, 0.05) == pytest.approx(expected, rel=1e-12)
    assert design.power(400, -0.1, 0.05) == pytest.approx(expected, rel=1e-12)
    strict = stats.norm.cdf((40 - 1 - 2.5758293035489004 * 10) / math.sqrt(96))
    assert design.power(400, 0.1, 0.01) == pytest.approx(strict, rel=1e-12)
    exact = 0.0
    for apart in range(17):
        cuts = [k for k in range(apart + 1) if 2 * stats.binom.cdf(min(k, apart - k), apart, 0.5) <= 0.05]
        exact += stats.binom.pmf(apart, 16, 0.25) * sum(stats.binom.pmf(k, apart, 0.7) for k in cuts)
    assert design.power(16, 0.1, 0.05) == pytest.approx(exact, rel=1e-9)
    assert design.power(17, 0.1, 0.05) == pytest.approx(
        stats.norm.cdf((1.7 - 1 - Z * math.sqrt(17 / 4)) / math.sqrt(17 * 0.24)), rel=1e-12
    )
    assert abs(design.power(17, 0.1, 0.05) - exact) > 0.02


@pytest.mark.parametrize(("n", "apart", "level"), [(12, 0.3, 0.05), (6, 1.0, 0.05), (5, 1.0, 0.05), (6, 1.0, 0.03)])
def test_where_one_model_wins_all_that_sets_them_apart(n: int, apart: float, level: float) -> None:
    """m wins of m have 2 · 2⁻ᵐ: at 5% six of six are needed, at 3% seven."""
    needed = next(m for m in range(1, 99) if 2 * 0.5**m <= level)
    expected = stats.binom.sf(needed - 1, n, apart)
    assert PairedShares(apart).power(n, apart, level) == pytest.approx(expected, abs=1e-9)


def test_a_difference_beyond_the_discordance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a difference of 0\.2 needs a discordance of at least as much, not 0\.1$"):
        PairedShares(0.1).power(9, -0.2, 0.05)
    assert PairedShares(0.1).power(9, 0.1, 0.05) < 0.05


@pytest.mark.parametrize(
    ("base", "difference", "correlation", "apart"),
    [
        (0.5, 0.1, 0.0, 0.5), (0.5, 0.1, 0.4, 0.5 - 0.8 * math.sqrt(0.06)), (0.2, 0.6, 0.0, 0.04 + 0.64),
        (0.2, 0.6, 0.25, 0.68 - 0.5 * 0.16), (0.6, -0.1, 0.999, 0.1), (0.6, -0.1, 0.4, 0.5 - 0.8 * math.sqrt(0.06)),
        (0.5, 0.0, 0.5, 0.25),
    ],
)  # fmt: skip
def test_how_often_two_models_are_apart(base: float, difference: float, correlation: float, apart: float) -> None:
    """p (1 − q) + q (1 − p), less twice the covariance; but for rounding no less than the difference."""
    assert PairedShares.of_correlation(base, difference, correlation).discordance == pytest.approx(apart, rel=1e-12)


@pytest.mark.parametrize(
    ("deviation", "correlation", "paired"), [(3.0, 0.875, 1.5), (2.0, 0.0, math.sqrt(8)), (2.0, -1.0, 4.0), (1, 1, 0)]
)
def test_the_deviation_of_a_difference(deviation: float, correlation: float, paired: float) -> None:
    assert Means.of_correlation(deviation, correlation).deviation == pytest.approx(paired, rel=1e-12)
    assert Means.of_correlation(deviation, correlation).unpaired is False


def test_shares_of_different_prompts_by_hand() -> None:
    """From 0.5 to 0.7 with 92 each: 0.2 over √(0.46 / 92) = 0.0707 is 2.828."""
    design = UnpairedShares(0.5)
    assert design.power(92, 0.2, 0.05) == pytest.approx(stats.norm.cdf(math.sqrt(8) - Z), rel=1e-12)
    assert design.power(92, -0.2, 0.05) == pytest.approx(stats.norm.cdf(math.sqrt(8) - Z), rel=1e-12)
    assert design.power(92, 0.2, 0.01) == pytest.approx(stats.norm.cdf(math.sqrt(8) - 2.5758293035489004), rel=1e-12)
    assert UnpairedShares(0.0).power(2, 1.0, 0.05) == 1.0
    assert UnpairedShares(0.25).power(9, 0.75, 0.05) == pytest.approx(
        stats.norm.cdf(0.75 / math.sqrt(0.1875 / 9) - Z), rel=1e-12
    )
    for difference in (0.6, -0.6):
        with pytest.raises(ValueError, match=rf"^0\.5 and {difference} more is no share$"):
            design.power(9, difference, 0.05)


def test_how_large_a_difference_there_can_be() -> None:
    assert [PairedShares(0.3).largest, UnpairedShares(0.3).largest, Means(1.0).largest] == [0.3, 0.7, math.inf]


def student(shift: float, t: float, df: int) -> float:
    """Abramowitz and Stegun 26.7.10, both sides."""
    spread = math.sqrt(1 + t**2 / (2 * df))
    return sum(float(stats.norm.cdf((side - t * (1 - 0.25 / df)) / spread)) for side in (shift, -shift))


@pytest.mark.parametrize(
    ("design", "n", "difference", "level", "shift", "df"),
    [
        (Means(2.0), 2, 3.0, 0.05, 1.5 * math.sqrt(2), 1), (Means(2.0), 2, 0.0, 0.05, 0.0, 1),
        (Means(2.0), 17, -1.0, 0.01, math.sqrt(17) / 2, 16), (Means(0.5, True), 2, 1.0, 0.2, 2.0, 2),
        (Means(0.5, True), 9, 0.25, 0.05, 0.5 * math.sqrt(4.5), 16),
    ],
)  # fmt: skip
def test_students_power_by_hand(design: Means, n: int, difference: float, level: float, shift: float, df: int) -> None:
    expected = student(shift, float(stats.t.ppf(1 - level / 2, df)), df)
    assert design.power(n, difference, level) == pytest.approx(expected, rel=1e-9)


def test_one_prompt_has_no_deviation() -> None:
    assert Means(1.0).power(1, 99.0, 0.05) == Means(1.0, True).power(1, 99.0, 0.05) == 0.0
    assert Means(1.0, True).power(2, 99.0, 0.05) > 0.9


def test_successes_of_some_throws() -> None:
    assert module._binomial(3, 0.5) == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8], rel=1e-12)
    assert module._binomial(3, 0.25) == pytest.approx([27 / 64, 27 / 64, 9 / 64, 1 / 64], rel=1e-12)
    assert module._binomial(3, 1.0).tolist() == [0, 0, 0, 1]
    assert module._binomial(0, 0.5).tolist() == [1.0]


def test_the_chance_of_a_small_p_value() -> None:
    """Of m throws with heads of 0.75 at 20%: 2 · (1 + m)/2ᵐ is below for m = 7, and 2/2ᵐ from m = 4 on."""
    chances = module._rejected(0.75, 0.2, 7)
    expected = [0.0] * 4 + [0.75**m + 0.25**m for m in (4, 5, 6)]
    expected.append(0.75**7 + 7 * 0.75**6 * 0.25 + 0.25**7 + 7 * 0.25**6 * 0.75)
    assert chances == pytest.approx(expected, rel=1e-9)
