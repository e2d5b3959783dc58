"""Intervals of Bradley–Terry scores and of first errors, resampled by hand with prompts as the units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from twofold.evaluation import bradley_terry as module
from twofold.evaluation.bradley_terry import Match, bradley_terry
from twofold.evaluation.steps import RatedSolution, first_error_f1, rated, step_report
from twofold.statistics import bca_bounds

PLAYED = [Match(0, 1, "x", 1.0), Match(1, 0, "x", 0.5), Match(0, 1, "y", 0.0), Match(0, 1, "z", 1.0)]


def score(won: float, lost: float) -> float:
    """Of the first of two players, by bisection: won − (won + lost)·σ(2s) = s / 100, and the other's is −s."""
    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        slope = won - (won + lost) / (1 + math.exp(-2 * middle)) - middle / 100
        low, high = (middle, high) if slope > 0 else (low, middle)
    return low


@pytest.mark.parametrize(("how", "seed", "resamples", "level"), [
    ({}, 0, 1000, 0.95), ({"seed": 3, "resamples": 40, "level": 0.8}, 3, 40, 0.8),
])  # fmt: skip
def test_ends_are_quantiles_over_prompts(how: dict[str, float], seed: int, resamples: int, level: float) -> None:
    """Prompt x has a win and a tie of the first player, y a loss, z a win."""
    found = bradley_terry(PLAYED, 2, **how)  # type: ignore[arg-type]  # settings by name
    won, lost = np.array([1.5, 0.0, 1.0]), np.array([0.5, 1.0, 0.0])
    draws = np.random.default_rng(seed).multinomial(3, [1 / 3] * 3, size=resamples)
    known = {tuple(draw): score(float(draw @ won), float(draw @ lost)) for draw in draws.tolist()}
    scores = [known[tuple(draw)] for draw in draws.tolist()]
    low, high = np.quantile(scores, [(1 - level) / 2, 1 - (1 - level) / 2])
    first, second = found.estimates
    assert (first.value, first.low, first.high) == pytest.approx((score(2.5, 1.5), low, high), abs=1e-6)
    assert (second.value, second.low, second.high) == pytest.approx((-score(2.5, 1.5), -high, -low), abs=1e-6)
    assert (first.n, first.count, first.clusters) == (4, None, None)
    assert first.method == f"Bradley–Terry, bootstrap over prompts {level:.0%}"
    assert (found.groups, found.is_connected) == ((0, 0), True)


def test_without_matches_each_player_has_nothing() -> None:
    found = bradley_terry([], 3)
    assert [(e.value, e.low, e.high, e.n) for e in found.estimates] == [(0.0, 0.0, 0.0, 0)] * 3
    assert (found.groups, found.is_connected) == ((0, 1, 2), False)
    assert bradley_terry([], 1).is_connected


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        ([(0, 1), (1, 2), (3, 4)], [0, 0, 0, 1, 1]), ([(4, 0), (2, 3)], [0, 1, 2, 2, 0]),
        ([(1, 3), (3, 2), (2, 4)], [0, 1, 1, 1, 1]), ([], [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_groups_are_chains_of_matches(pairs: list[tuple[int, int]], groups: list[int]) -> None:
    won = np.zeros((5, 5))
    for a, b in pairs:
        won[a, b] = 0.5
    assert module._groups(won) == groups


def test_a_player_that_always_wins_has_a_finite_score() -> None:
    """By the penalty: 4·(1 − σ(2s)) = s / 100."""
    first, second = bradley_terry([Match(0, 1, n, 1.0) for n in range(4)], 2).estimates
    assert first.value == pytest.approx(score(4.0, 0.0), abs=1e-6)
    assert (first.low, first.high) == pytest.approx((first.value, first.value), abs=1e-6)
    assert second.value == pytest.approx(-first.value)


def solution(prompt: str, labels: Sequence[float], probabilities: Sequence[float]) -> RatedSolution:
    return RatedSolution(prompt, tuple(labels), tuple(probabilities))


SOLUTIONS = [
    solution("a", [1, 0], [0.9, 0.2]), solution("a", [0, 1], [0.8, 0.9]), solution("b", [1, 1], [0.9, 0.6]),
    solution("b", [1, 0], [0.7, 0.1]), solution("c", [1], [0.3]), solution("c", [1, 1], [0.9, 0.5]),
    solution("d", [0], [0.1]),
]  # fmt: skip
UNITS = np.array([[2, 1, 0, 0], [1, 1, 1, 1], [0, 0, 2, 1], [1, 1, 0, 0]], dtype=np.float64)
"""Of prompts a to d: solutions with an error, those located, solutions without one, those in which none is seen."""


def f1(sums: Sequence[float]) -> float:
    erroneous, located, correct, passed = sums
    if not erroneous or not correct or not located or not passed:
        return 0.0
    a, b = located / erroneous, passed / correct
    return 2 * a * b / (a + b)


@pytest.mark.parametrize(("how", "seed", "level"), [({}, 0, 0.95), ({"seed": 5, "level": 0.8}, 5, 0.8)])
def test_f1_resamples_prompts(how: dict[str, float], seed: int, level: float) -> None:
    """3 of 4 errors are located, 2 of 3 correct solutions pass: 2·¾·⅔ / (¾ + ⅔)."""
    found = first_error_f1(SOLUTIONS, **how)  # type: ignore[arg-type]  # settings by name
    draws = np.random.default_rng(seed).multinomial(4, [0.25] * 4, size=2000)
    left_out = np.array([f1(UNITS.sum(0) - unit) for unit in UNITS])
    low, high, kind = bca_bounds(12 / 17, np.array([f1(draw @ UNITS) for draw in draws]), left_out, level)
    assert (found.value, found.low, found.high) == pytest.approx((12 / 17, low, high))
    assert (found.n, found.count, found.clusters) == (7, None, 4)
    assert found.method == f"bootstrap over prompts {level:.0%}, {kind}"
    apart = first_error_f1([solution(str(n), s.labels, s.probabilities) for n, s in enumerate(SOLUTIONS)])
    assert (apart.n, apart.clusters) == (7, None)


def test_f1_is_nothing_where_nothing_is_located_or_one_kind_is_missing() -> None:
    missed, fine = solution("a", [0], [0.9]), solution("b", [1], [0.9])
    assert first_error_f1([missed, fine]).value == 0.0
    for some in ([missed], [fine], []):
        found = first_error_f1(some)
        assert (found.value, found.low, found.high, found.n) == (0.0, 0.0, 1.0, 0)
        assert (found.count, found.method) == (None, "one kind of solutions is missing")


def test_a_half_is_right_in_labels_and_probabilities() -> None:
    made = solution("a", [0.5, 0.49, 1.0], [0.49, 0.5, 0.51])
    assert (made.hits, made.has_error, made.is_located) == ([False, False, True], True, False)
    assert solution("a", [0.5, 1.0], [0.5, 0.6]).is_located
    assert not solution("a", [0.5, 1.0], [0.5, 0.6]).has_error
    assert solution("a", [1.0, 0.2, 0.1], [0.6, 0.4, 0.9]).is_located
    assert rated([], []) == []


def test_a_report_by_its_names() -> None:
    report = step_report(SOLUTIONS)
    assert list(report.as_dict()) == [
        "step accuracy", "right steps", "first error located", "no error seen in correct ones", "first-error F1",
    ]  # fmt: skip
    assert (report.accuracy.count, report.accuracy.n, report.accuracy.clusters) == (10, 12, 4)
    assert (report.right_steps.count, report.erroneous.count, report.correct.count) == (8, 3, 2)
    assert (report.right_steps.n, report.erroneous.n, report.correct.n) == (12, 4, 3)
    assert report.f1 == first_error_f1(SOLUTIONS)
    assert report.as_dict()["right steps"] == report.right_steps.as_dict()
    assert step_report(SOLUTIONS[4:6]).as_dict().keys() == {
        "step accuracy", "right steps", "no error seen in correct ones",
    }  # fmt: skip
