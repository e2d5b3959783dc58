"""Intervals of paired differences where all units agree: Tango's score interval, solved by scipy, and how often they
have the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from twofold.evaluation.figures import BinaryOutcomes, Ratio
from twofold.evaluation.games import Game, Shares
from twofold.evaluation.pass_at_k import PassAtK, Sampled, compare
from twofold.statistics import Estimate, share_difference


def tango(only_a: int, only_b: int, n: int, level: float) -> tuple[float, float]:
    """Both ends by root finding on the score, whose nuisance share is the constrained maximum of the likelihood."""
    z = stats.norm.ppf(0.5 + level / 2)

    def score(delta: float) -> float:
        a, b = 2 * n, -only_a - only_b + (2 * n - only_b + only_a) * delta
        c = -only_a * delta * (1 - delta)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        return (only_b - only_a - n * delta) / math.sqrt(n * (2 * share + delta * (1 - delta)))

    ends = []
    for target, low, high in ((z, -1 + 1e-9, (only_b - only_a) / n), (-z, (only_b - only_a) / n, 1 - 1e-9)):
        flat = high <= -1 + 1e-9 if target > 0 else low >= 1 - 1e-9
        ends.append(low if flat else optimize.brentq(lambda d, t=target: score(d) - t, low + 1e-9, high - 1e-12))
    return ends[0], ends[1]


@pytest.mark.parametrize(("n", "level"), [(5, 0.95), (32, 0.95), (500, 0.95), (40, 0.9)])
def test_no_discordant_pairs_have_the_score_interval(n: int, level: float) -> None:
    zero = share_difference(Estimate(0.0, 0.0, 0.0, n, None, "bootstrap, all equal"), level)
    _, high = tango(0, 0, n, level)
    assert (zero.low, zero.high) == (pytest.approx(-high, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert "score interval" in zero.method
    all_won = share_difference(Estimate(1.0, 1.0, 1.0, n, None, "bootstrap, all equal"), level)
    assert (all_won.low, all_won.high) == (pytest.approx(tango(0, n, n, level)[0], abs=1e-6), 1.0)


def test_intervals_with_a_width_and_figures_beyond_shares_stay() -> None:
    for found in (Estimate(0.1, 0.0, 0.2, 9, None, "m"), Estimate(2.5, 2.5, 2.5, 9, None, "m")):
        assert share_difference(found) is found
    half = share_difference(Estimate(0.5, 0.5, 0.5, 12, None, "m", 6))
    width = 1.959963984540054**2 / (6 + 1.959963984540054**2)
    assert (half.low, half.high) == (pytest.approx(0.5 - 1.5 * width), pytest.approx(0.5 + 0.5 * width))


def test_every_comparison_of_equal_outcomes_has_a_width_that_n_decides() -> None:
    right, prompts = [True, False, True, True], ["a", "b", "c", "d"]
    outcomes = BinaryOutcomes(right, prompts)
    clusters = BinaryOutcomes(right, ["a", "a", "b", "b"])
    weighted = BinaryOutcomes(right, prompts, [1.0, 2.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0])
    games = Shares([Game(i, i, 0.5, 1, 1) for i in range(4)])
    samples = PassAtK(
        {"strict": tuple(Sampled(n, 1, (), 1) for n in prompts)}, 2, 0, cut=(0,) * 4, prompts=tuple(prompts)
    )
    share = Ratio([0.5] * 4, [1.0] * 4, prompts=prompts, share=True)
    z2 = 1.959963984540054**2
    for test, units in (
        (outcomes.against(outcomes), 4), (clusters.against(clusters), 2), (weighted.against(weighted), 4),
        (games.against(games), 4), (compare(samples, samples, "pass", "strict", 1), 4), (share.against(share), 4),
    ):  # fmt: skip
        assert test is not None
        assert (test.difference.low, test.difference.high) == (
            pytest.approx(-z2 / (units + z2)), pytest.approx(z2 / (units + z2))
        )  # fmt: skip
        assert (test.difference.value, test.test.p_value) == (0, 1)
        assert test.test.n == units or test.difference.n == 4
    nats = Ratio([1.0, 2.0], [3.0, 4.0], exponential=True, tokens=[1, 1]).against(
        Ratio([1.0, 2.0], [3.0, 4.0], exponential=True, tokens=[1, 1])
    )
    assert nats is not None
    assert (nats.difference.low, nats.difference.high) == (0, 0), "nats have no bound"


def test_it_covers_where_the_bootstrap_has_no_width() -> None:
    """Two models that differ on 2% of problems in each direction, 40 problems: of 4,000 draws one in five has no
    discordant pair. With the bootstrap alone those would miss every difference but 0."""
    rng, truth, n = np.random.default_rng(0), 0.03, 40
    moved = rng.choice([-1, 0, 1], p=[0.005, 0.96, 0.035], size=(4000, n))
    alike = (moved == 0).all(1)
    interval = share_difference(Estimate(0.0, 0.0, 0.0, n, None, "m"))
    assert 0.15 < alike.mean() < 0.25
    assert interval.low <= truth <= interval.high
