"""Length control in small numbers: features, repeated instructions, two models, portions, and scikit-learn's call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from twofold.evaluation import length_control as module
from twofold.evaluation.length_control import GamedRows, LengthControl, exact_fits, fit
from twofold.statistics import bca_bounds

GAMED = GamedRows(
    np.array([[0.9, 0.5, 0.0], [0.4, -1.0, 0.0], [-0.8, 0.5, 0.0], [-0.2, -1.0, 0.0]]),
    np.array([0.9, 0.6, 0.2, 0.4]), {0: 0.5, 1: -1.0, 2: 2.0},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_liblinear", lambda: False)


def control(shares: Sequence[float | None], indices: Sequence[int] = (0, 1, 2, 0), **more: Any) -> LengthControl:
    n = len(shares)
    made = LengthControl(shares, [10, 30, 20, 40][:n], [20, 20, 20, 10][:n], indices[:n], GAMED, **more)
    made.__dict__["strength"] = 2.0  # as if cross-validated
    return made


def test_features_are_the_tilt_the_difficulty_and_one() -> None:
    """Gaps of 10, −10, 0 and −30 characters have a mean of −7.5 and a variance of 875 / 3."""
    spread = (875 / 3) ** 0.5
    expected = [
        [np.tanh(10 / spread), 0.5, 1],
        [np.tanh(-10 / spread), -1, 1],
        [0, 2, 1],
        [np.tanh(-30 / spread), 0.5, 1],
    ]
    np.testing.assert_allclose(control([1.0, 0.0, 0.5, 1.0]).feature_NK, expected, rtol=1e-12)
    assert control([1.0]).feature_NK.tolist() == [[0.0, 0.5, 1.0]]
    level = LengthControl([1.0, 0.0], [7, 9], [9, 11], [0, 1], GAMED)
    assert level.feature_NK.tolist() == [[0.0, 0.5, 1.0], [0.0, -1.0, 1.0]]


def test_rows_of_a_fit_are_the_gamed_ones_and_those_with_a_verdict() -> None:
    one = control([1.0, None, 0.5, 0.25])
    x, y, weight = one._rows
    assert x.tolist() == [*GAMED.feature_GK.tolist(), *one.feature_NK[[0, 2, 3]].tolist()]
    assert y.tolist() == [0.9, 0.6, 0.2, 0.4, 1.0, 0.5, 0.25]
    assert weight.tolist() == [0.1] * 4 + [1.0] * 3


def test_the_package_s_standard_error_is_of_the_predictions() -> None:
    one = control([1.0, 0.5, 1.0, 0.75])
    one.__dict__["weight_K"] = np.array([0.3, 0.5, 0.25])
    p = 1 / (1 + np.exp(-(0.25 + 0.5 * np.array([0.5, -1.0, 2.0, 0.5]))))
    np.testing.assert_allclose(one.predicted_N, p, rtol=1e-12)
    error = (float(((p - p.mean()) ** 2).sum()) / 3) ** 0.5 / 2
    assert one.about() == {
        "weights": {"length": 0.3, "difficulty": 0.5, "model": 0.25}, "C": 2.0, "solver": "exact",
        "standard_error": pytest.approx(error),
    }  # fmt: skip
    two, alone = control([1.0, 0.5]), control([1.0])
    for each in (two, alone):
        each.__dict__["weight_K"] = one.weight_K
    assert two.about()["standard_error"] == pytest.approx(abs(p[0] - p[1]) / 2)
    assert alone.about()["standard_error"] == 0.0


def test_a_repeated_instruction_is_drawn_as_one() -> None:
    """Three instructions, the first of which has two rows: the resamples by hand."""
    one = control([1.0, 0.5, 0.0, 0.75], resamples=12)
    x, y, weight = one._rows
    counts = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=12)

    def rate(count: Any) -> float:
        often = np.array([count[0], count[1], count[2], count[0]], dtype=np.float64)
        w = exact_fits(x, y, np.concatenate([weight[:4], often])[None], 2.0)[0]
        p = 1 / (1 + np.exp(-(w[2] + w[1] * np.array([0.5, -1.0, 2.0, 0.5]))))
        return float((p * often).sum() / often.sum())

    draws = np.array([rate(count) for count in counts])
    left_out = np.array([rate(count) for count in ([0, 1, 1], [1, 0, 1], [1, 1, 0])])
    low, high, how = bca_bounds(float(one.predicted_N.mean()), draws, left_out, 0.95)
    found = one.estimate()
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-8)
    assert (found.n, found.count, found.clusters) == (4, None, 3)
    assert found.method == f"length-controlled, bootstrap over instructions 95%, {how}"
    assert found.value == pytest.approx(rate([1, 1, 1]), abs=1e-8)
    assert control([1.0, 0.5, 0.0], resamples=12).estimate().clusters is None


@pytest.mark.parametrize("most", [1, 7, 14, 21, 1000])
def test_resamples_in_portions_are_those_at_once(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries at once: none, those of one, two and three resamples, and all."""
    whole = control([1.0, 0.5, None, 0.75], resamples=5)
    expected = whole._draws, whole._left_out
    monkeypatch.setattr(module, "PARTS", most)
    one = control([1.0, 0.5, None, 0.75], resamples=5)
    for found, want in zip((one._draws, one._left_out), expected, strict=True):
        np.testing.assert_allclose(found, want, atol=1e-9)


def test_two_models_are_compared_by_the_same_resamples() -> None:
    """Each verdict that both have counts for who has more of it."""
    a = control([1.0, 0.5, None, 0.25], resamples=30)
    b = control([0.5, 1.0, 1.0, 0.75], resamples=30)
    found = a.against(b)
    assert found is not None
    moved, left_out = b._draws - a._draws, b._left_out - a._left_out
    value = float(b.predicted_N.mean() - a.predicted_N.mean())
    low, high, how = bca_bounds(value, moved, left_out, 0.95)
    assert (found.difference.value, found.difference.low, found.difference.high) == (value, low, high)
    assert found.difference.method == f"paired bootstrap over instructions 95%, {how}"
    assert (found.difference.n, found.difference.count) == (3, None)
    below, above = sum(moved <= 0), sum(moved >= 0)
    assert found.test.p_value == min(1.0, 2 * (min(below, above) + 1) / 31)
    assert (found.test.only_a, found.test.only_b, found.test.n) == (1, 2, 3)
    assert found.test.test == "paired bootstrap, 30 resamples"
    back = b.against(a)
    assert back is not None
    assert (back.test.only_a, back.test.only_b, back.difference.value) == (2, 1, -value)
    assert back.test.p_value == found.test.p_value


def test_other_instructions_or_resamples_are_not_compared() -> None:
    a = control([1.0, 0.5, 0.0], resamples=3)
    assert a.against(replace(a, resamples=4)) is None
    assert a.against(replace(a, resamples=2)) is None
    for indices in ((0, 2, 1), (1, 0, 2), (0, 1, 0)):
        other = control([1.0, 0.5, 0.0], indices, resamples=3)
        assert a.against(other) is other.against(a) is None


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.8.0", True), ("1.7.2", False), ("2.0.1", True), ("1.10", True), ("0.24.2", False), ("1.8rc1", False),
     ("2", True), (None, False)],
)  # fmt: skip
def test_which_scikit_learn_can_choose_the_penalty(
    version: str | None, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 1.8 on; another kind of version is none."""
    monkeypatch.undo()

    def installed(name: str) -> str:
        assert name == "scikit-learn"
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(module, "version", installed)
    assert module._has_liblinear() is known
    assert control([1.0]).solver == ("liblinear" if known else "exact")


class Regression:
    """As scikit-learn's: notes what it is made with and fitted to."""

    calls: list[Any] = []  # noqa: RUF012  # of one test

    def __init__(self, **how: Any) -> None:
        self.calls.append(how)

    def fit(self, x: Any, y: Any, **how: Any) -> Any:
        self.calls.append((x.tolist(), y.tolist(), {name: value.tolist() for name, value in how.items()}))
        return SimpleNamespace(coef_=[[1, 2, 3]])


def test_liblinear_has_each_row_twice_with_its_share_of_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """As won, by the preference, and as lost, by the rest of it."""
    linear = ModuleType("sklearn.linear_model")
    linear.LogisticRegression = Regression  # type: ignore[attr-defined]  # as the package has it
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", linear)
    monkeypatch.setattr(Regression, "calls", [])
    x = np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 1.0]])
    found = fit(x, np.array([0.25, 1.0]), np.array([0.5, 2.0]), 3.0, "liblinear", 7)
    assert (found.tolist(), found.dtype) == ([1.0, 2.0, 3.0], np.float64)
    how, call = Regression.calls
    assert how == {"C": 3.0, "l1_ratio": 1.0, "solver": "liblinear", "fit_intercept": False, "random_state": 7}
    assert call == (x.tolist() * 2, [1, 1, 0, 0], {"sample_weight": [0.125, 2.0, 0.375, 0.0]})
    fit(x, np.array([0.25, 1.0]), np.array([0.5, 2.0]), 3.0, "liblinear")
    assert Regression.calls[2]["random_state"] == 123


def test_folds_are_by_position_from_the_last_and_share_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven rows the last and the second are the first fold; of equals the least strength wins."""
    calls = list[Any]()

    def fitted(x: Any, share: Any, weight: Any, strength: float, solver: str, state: Any) -> Any:
        calls.append(([int(v) for v in x[:, 0]], share.tolist(), weight.tolist(), strength, solver, state))
        return np.zeros(1) if strength != 1e-4 else np.full(1, 0.5)

    monkeypatch.setattr(module, "fit", fitted)
    x, share, weight = np.arange(7.0)[:, None], np.linspace(0, 0.6, 7), np.linspace(1, 2, 7)
    assert module.cross_validated(x, share, weight, "liblinear") == module.STRENGTHS[1]
    assert [call[0] for call in calls[::10]] == [
        [0, 2, 3, 4, 5], [1, 2, 3, 4, 6], [0, 1, 2, 3, 5, 6], [0, 1, 2, 4, 5, 6],
        [0, 1, 3, 4, 5, 6],
    ]  # fmt: skip
    assert {call[4] for call in calls} == {"liblinear"}
    assert [call[3] for call in calls] == list(module.STRENGTHS) * 5
    assert len({id(call[5]) for call in calls}) == 5
    assert all(call[5] is calls[10 * fold][5] for fold in range(5) for call in calls[10 * fold : 10 * fold + 10])
