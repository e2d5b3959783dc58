"""Scores at equal style: what a fit recovers from verdicts of a known model, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from twofold.evaluation.style_control import StyleControl, StyleScore, logistic_fits


def simulated(n: int = 3000, length: float = 0.0, quality: float = 0.0) -> StyleControl:
    """One player whose answers are longer, with verdicts of σ(quality + length · difference)."""
    rng = np.random.default_rng(3)
    own, other = rng.integers(200, 400, n), rng.integers(100, 300, n)
    difference = (own - other) / (own + other)
    won = rng.random(n) < 1 / (1 + np.exp(-(quality + length * difference)))
    styles = [[int(t), 0, int(k), 0] for t, k in zip(own, rng.integers(0, 9, n), strict=True)]
    others = [[int(t), 0, int(k), 0] for t, k in zip(other, rng.integers(0, 9, n), strict=True)]
    return StyleControl(1, [0] * n, won.astype(float).tolist(), [1] * n, styles, others, range(n), resamples=200)


def test_a_judge_of_length_alone_gives_half_at_equal_style() -> None:
    control = simulated(length=6.0)
    at_mean, equal = (StyleScore(control, 0, equal=equal).estimate() for equal in (False, True))
    assert at_mean.value > 0.7
    assert equal.low < 0.5 < equal.high
    assert equal.high - equal.low < 0.12
    fit = control.about()
    assert fit["tokens"]["weight"] / fit["tokens"]["sd"] == pytest.approx(6.0, abs=0.6)
    assert fit["headers"] == {"weight": 0.0, "mean": 0.0, "sd": 0.0}
    assert abs(fit["lists"]["weight"]) < 0.15


def test_a_better_player_is_better_at_equal_style() -> None:
    equal = StyleScore(simulated(length=-3.0, quality=1.0), 0, equal=True).estimate()
    assert equal.value == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.04)
    assert equal.n == 3000


def test_players_of_one_fit_are_compared_on_the_same_resamples() -> None:
    one = simulated(400, quality=0.0)
    rng = np.random.default_rng(5)
    better = (rng.random(400) < 0.8).astype(float).tolist()
    both = StyleControl(2, [0] * 400 + [1] * 400, [*one.points, *better], [1] * 800, [*one.styles, *one.styles],
                        [*one.others, *one.others], [*range(400)] * 2, resamples=200)  # fmt: skip
    a, b = (StyleScore(both, player, equal=False) for player in (0, 1))
    moved = a.against(b)
    assert moved is not None
    assert moved.difference.value == pytest.approx(b.estimate().value - a.estimate().value)
    assert 0.2 < moved.difference.low < moved.difference.high < 0.45
    assert moved.test.p_value == pytest.approx(2 / 201)
    assert (moved.test.n, moved.test.only_b > moved.test.only_a) == (400, True)
    assert a.against(StyleScore(one, 0, equal=False)) is None


def test_a_style_that_separates_wins_from_losses_has_no_fit() -> None:
    styles = [[100 + i, 0, 0, 0] for i in range(20)]
    others = [[110, 0, 0, 0]] * 20
    won = [float(style[0] > 110) for style in styles]
    assert not StyleControl(1, [0] * 20, won, [1] * 20, styles, others, range(20)).is_finite


def test_who_wins_all_battles_has_the_score_1() -> None:
    one = simulated(200)
    both = StyleControl(2, [0] * 200 + [1] * 200, [*one.points, *[1.0] * 200], [1] * 400, [*one.styles, *one.styles],
                        [*one.others, *one.others], [*range(200)] * 2, resamples=100)  # fmt: skip
    found = StyleScore(both, 1, equal=False).estimate()
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)
    alone = StyleControl(1, [0] * 200, one.points, [1] * 200, one.styles, one.others, range(200))
    assert (
        0.3
        < StyleScore(both, 0, equal=True).estimate().value
        == pytest.approx(StyleScore(alone, 0, equal=True).estimate().value, abs=1e-6)
    )


def test_counts_are_repeated_outcomes() -> None:
    x = np.array([[1.0, 0.5], [1.0, -1.0], [1.0, 0.2]])
    (found,) = logistic_fits(x, np.array([2.0, 1.0, 0.5]), np.array([3.0, 3.0, 1.0]), np.ones((1, 3)))
    again = np.repeat(x, 3, axis=0)[:7]
    (single,) = logistic_fits(
        np.concatenate([again[:6], x[2:]]), np.array([1, 1, 0, 1, 0, 0, 0.5]), np.ones(7), np.ones((1, 7))
    )
    assert found == pytest.approx(single, abs=1e-9)
    assert float(x[0] @ found) > float(x[1] @ found)
