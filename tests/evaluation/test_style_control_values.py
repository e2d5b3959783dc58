"""Style control in small numbers: differences, moments, questions of several matches, players without battles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from twofold.evaluation import style_control as module
from twofold.evaluation.style_control import StyleControl, StyleScore, logistic_fits
from twofold.statistics import bca_bounds

OWN = [[30, 3, 0, 1], [10, 0, 2, 0], [0, 0, 0, 0], [20, 1, 1, 1], [25, 0, 0, 2], [12, 2, 0, 0]]
OTHER = [[10, 1, 1, 0], [10, 0, 1, 0], [0, 0, 0, 0], [40, 0, 1, 1], [15, 1, 0, 0], [18, 0, 0, 1]]
POINTS, COUNTS = [1.5, 1.0, 0.5, 2.0, 3.0, 1.0], [2, 2, 2, 4, 4, 2]


def control(resamples: int = 10, **more: Any) -> StyleControl:
    """Two players on three questions; each meets the first question twice, or the second."""
    given = {"players": 2, "numbers": [0, 0, 0, 1, 1, 1], "points": POINTS, "counts": COUNTS, "styles": OWN,
             "others": OTHER, "questions": [4, 4, 9, 9, 4, 7]} | more  # fmt: skip
    return StyleControl(**given, resamples=resamples)


def test_differences_of_styles_by_hand() -> None:
    """Tokens (30 − 10) / (30 + 10); headers a = 3/31, b = 1/11: (a − b) / (a + b + 1). Without tokens there is none."""
    found = control()._difference_NF
    assert found[:, 0].tolist() == pytest.approx([0.5, 0.0, 0.0, -20 / 60, 10 / 40, -6 / 30])
    a, b = 3 / 31, 1 / 11
    assert found[0, 1] == pytest.approx((a - b) / (a + b + 1))
    assert found[0, 2] == pytest.approx(-b / (b + 1))
    assert found[0, 3] == pytest.approx((1 / 31) / (1 / 31 + 1))
    assert found[1, 2] == pytest.approx((2 / 11 - 1 / 11) / (3 / 11 + 1))
    assert found[2].tolist() == [0.0] * 4


def test_moments_are_over_battles() -> None:
    """Each match as often as it has battles, 16 in all; the variance over 15."""
    battles = np.repeat(control()._difference_NF, COUNTS, axis=0)
    mean, sd = control()._moments
    np.testing.assert_allclose(mean, battles.mean(0), rtol=1e-12)
    np.testing.assert_allclose(sd, battles.std(0, ddof=1), rtol=1e-12)
    x = control()._x_NK
    assert x[:, :2].tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    np.testing.assert_allclose(x[:, 2:], (control()._difference_NF - mean) / sd, rtol=1e-12)
    single = control(numbers=[0], points=[1.0], counts=[1], styles=OWN[:1], others=OTHER[:1], questions=[1])
    assert single._moments[1].tolist() == [0.0] * 4


def test_a_fit_is_read_by_the_name_of_its_style() -> None:
    """A style that is equal in all matches has no weight."""
    one = control(styles=[[a, 0, c, d] for a, _, c, d in OWN], others=[[a, 0, c, d] for a, _, c, d in OTHER])
    one.__dict__["weight_K"] = np.array([0.1, 0.2, 1.0, 2.0, 3.0])
    mean, sd = one._moments
    assert one.about() == {
        "tokens": {"weight": 1.0, "mean": mean[0], "sd": sd[0]}, "headers": {"weight": 0.0, "mean": 0.0, "sd": 0.0},
        "lists": {"weight": 2.0, "mean": mean[2], "sd": sd[2]}, "bold": {"weight": 3.0, "mean": mean[3], "sd": sd[3]},
    }  # fmt: skip


def test_a_score_is_at_the_mean_style_or_at_equal_style() -> None:
    one = control()
    mean, sd = one._moments
    weights = np.array([[0.5, -0.25, 1.0, 0.5, 0.0, 2.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    sigma = lambda x: 1 / (1 + np.exp(-np.asarray(x)))  # noqa: E731  # short
    shift = float(1.0 * mean[0] / sd[0] + 0.5 * mean[1] / sd[1] + 2.0 * mean[3] / sd[3])
    expected = sigma([[0.5 - shift, -0.25 - shift], [0.0, 1.0]])
    np.testing.assert_allclose(one.scores(weights, equal=True), expected, rtol=1e-12)
    np.testing.assert_allclose(one.scores(weights, equal=False), sigma(weights[:, :2]), rtol=1e-12)


def test_a_question_is_drawn_with_all_its_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions in order of first appearance: 4, 9, 7."""
    often = list[Any]()
    monkeypatch.setattr(
        StyleControl, "_fitted", lambda self, each: often.extend(each.tolist()) or np.zeros((len(each), 1))
    )
    one = control(resamples=4)
    assert one.draws_RK.shape == (4, 1)
    draws = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=4)
    assert often == [[q[0], q[0], q[1], q[1], q[0], q[2]] for q in draws.tolist()]
    often.clear()
    assert one.left_out_QK.shape == (3, 1)
    assert often == [[0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 5), (6, [1] * 5), (12, [2, 2, 1]), (29, [4, 1]), (30, [5])])
def test_resamples_are_fitted_in_portions(most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six matches each."""
    portions = list[int]()
    monkeypatch.setattr(module, "PARTS", most)
    monkeypatch.setattr(
        StyleControl, "_fitted", lambda self, each: portions.append(len(each)) or np.zeros((len(each), 1))
    )
    assert control(resamples=5).draws_RK.shape == (5, 1)
    assert portions == sizes


def test_who_has_no_battle_has_no_score_and_a_large_weight_is_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 per standard deviation is the most."""
    weights = np.array(
        [[0.5, 40.0, 15.0, -15.0, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0, -15.1, 0.0], [0.5, 1.0, 1.0, 0.0, 0.0, 0.0]]
    )
    seen = list[Any]()

    def fitted(x: Any, points: Any, counts: Any, often: Any) -> Any:
        seen.append((points.tolist(), counts.tolist(), often.tolist()))
        return weights.copy()

    monkeypatch.setattr(module, "logistic_fits", fitted)
    often = np.array([[1.0] * 6, [1.0] * 6, [1, 1, 1, 0, 0, 0]])
    found = control()._fitted(often)
    assert seen == [(POINTS, COUNTS, often.tolist())]
    assert found[0].tolist() == weights[0].tolist()
    assert np.isnan(found[1]).all()
    assert found[2][[0, 2, 3, 4, 5]].tolist() == [0.5, 1.0, 0.0, 0.0, 0.0]
    assert np.isnan(found[2][1])


def test_questions_on_which_both_have_verdicts() -> None:
    """Question 4: 2.5 of 4 points for 0, 3 of 4 for 1; question 9: ½ of 2, and 2 of 4."""
    one = control()
    a, b = (StyleScore(one, player, equal=False) for player in (0, 1))
    assert (a._better(b), b._better(a)) == ((2, 0, 2), (2, 2, 0))
    few = control(counts=[2, 2, 0, 4, 4, 2], points=[1.5, 1.0, 0.0, 2.0, 3.0, 1.0])
    assert StyleScore(few, 0, equal=False)._better(StyleScore(few, 1, equal=False)) == (1, 0, 1)
    even = control(points=[1.5, 1.5, 1.0, 2.0, 3.0, 1.0])
    assert StyleScore(even, 0, equal=False)._better(StyleScore(even, 1, equal=False)) == (2, 0, 0)


def fixed(draws: Any, left_out: Any, weight: Any, **more: Any) -> StyleControl:
    """A fit of these weights, of which only the two players' differ."""
    one = control(resamples=len(draws), **more)
    wide = lambda rows: np.concatenate([np.asarray(rows), np.zeros((len(rows), 4))], axis=1)  # noqa: E731  # short
    one.__dict__.update(draws_RK=wide(draws), left_out_QK=wide(left_out), weight_K=wide([weight])[0])
    return one


DRAWS = [[0.0, 1.0], [0.5, 0.2], [1.0, 2.0], [-0.5, 0.5], [0.2, 0.4], [0.3, 0.3], [np.nan, 1.0]]
LEFT_OUT = [[0.1, 0.9], [0.4, 0.6], [0.3, 1.0]]


def test_a_score_and_its_interval() -> None:
    """Of seven resamples one has no fit for the first player."""
    one = fixed(DRAWS, LEFT_OUT, [0.25, 0.75])
    sigma = lambda x: 1 / (1 + np.exp(-np.asarray(x, dtype=np.float64)))  # noqa: E731  # short
    draws, left_out = sigma([row[0] for row in DRAWS[:6]]), sigma([row[0] for row in LEFT_OUT])
    found = StyleScore(one, 0, equal=False).estimate()
    low, high, how = bca_bounds(float(sigma(0.25)), draws, left_out, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((float(sigma(0.25)), low, high))
    assert found.method == f"style-controlled, bootstrap over questions 95%, {how}, 6 of 7 resamples"
    assert (found.n, found.count, found.clusters) == (2, None, None)
    assert StyleScore(one, 1, equal=False).estimate().n == 3
    silent = fixed(DRAWS, LEFT_OUT, [0.25, 0.75], counts=[2, 2, 0, 4, 4, 2])
    assert StyleScore(silent, 0, equal=False).estimate().n == 1
    assert one.is_finite
    assert not fixed(DRAWS, LEFT_OUT, [0.25, np.nan]).is_finite


def test_two_scores_and_their_difference() -> None:
    """b leads in four of six resamples that have both, is behind in one, and is level in one."""
    one = fixed(DRAWS, LEFT_OUT, [0.25, 0.75])
    sigma = lambda x: 1 / (1 + np.exp(-np.asarray(x, dtype=np.float64)))  # noqa: E731  # short
    a, b = (StyleScore(one, player, equal=False) for player in (0, 1))
    found, back = a.against(b), b.against(a)
    assert found is not None
    assert back is not None
    moved = sigma([row[1] for row in DRAWS[:6]]) - sigma([row[0] for row in DRAWS[:6]])
    left_out = sigma([row[1] for row in LEFT_OUT]) - sigma([row[0] for row in LEFT_OUT])
    value = float(sigma(0.75) - sigma(0.25))
    low, high, how = bca_bounds(value, moved, left_out, 0.95)
    difference = found.difference
    assert (difference.value, difference.low, difference.high) == pytest.approx((value, low, high))
    assert difference.method == f"paired bootstrap over questions 95%, {how}, 6 of 7 resamples"
    assert (difference.n, difference.count) == (2, None)
    assert found.test.p_value == pytest.approx(2 * (2 + 1) / 7)
    assert (found.test.only_a, found.test.only_b, found.test.n) == (0, 2, 2)
    assert found.test.test == "paired bootstrap, 6 resamples"
    assert (back.test.p_value, back.difference.value) == pytest.approx((6 / 7, -value))
    assert a.against(StyleScore(control(), 1, equal=False)) is None


def test_without_finite_fits_a_difference_may_be_anything() -> None:
    one = fixed([[np.nan, 1.0]] * 3 + [[0.0, 1.0]], LEFT_OUT, [0.25, 0.75])
    a, b = (StyleScore(one, player, equal=False) for player in (0, 1))
    moved = a.against(b)
    assert moved is not None
    assert (moved.difference.low, moved.difference.high) == (-1.0, 1.0)
    assert moved.test.p_value == 1.0
    assert (a.estimate().low, a.estimate().high) == (0.0, 1.0)


def test_a_fit_of_an_intercept_is_the_log_odds_of_its_points() -> None:
    """3 of 4 points: ln 3; with a row twice as often, and no outcome of another, 5 of 6: ln 5."""
    x = np.ones((3, 1))
    points, counts = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 1.0])
    found = logistic_fits(x, points, counts, np.array([[1.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]))
    assert found[:, 0].tolist() == pytest.approx([np.log(3), np.log(5), np.log(3)])
