"""Each way to write a figure at its limits, and each table row."""

from __future__ import annotations

import math
from typing import Any

import pytest

from support.frozen import refuse_changes
from support.made_up_runs import run_data
from twofold.reports.run import Comparison, ModelResult, Results
from twofold.reports.tables import (
    WATCHED,
    Entry,
    against,
    comparisons,
    duration,
    entries,
    interval,
    is_share,
    labels,
    number,
    p_is,
    p_value,
    percent,
    points,
    results_rows,
    seed_rows,
    signed,
    watched,
)
from twofold.statistics import Estimate, mean_interval, wilson

NAN, INF = math.nan, math.inf


def result(name: str, *, base: float | None = None, policy: float | None = None, metric: str = "strict") -> Results:
    models = [(m, v) for m, v in (("base", base), ("policy", policy)) if v is not None]
    return Results(name=name, models=tuple(ModelResult(m, {metric: wilson(round(v), 100)}) for m, v in models))


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (p_value, 0.001, "0.001"), (p_value, 0.00099, "< 0.001"), (p_value, 0.0, "< 0.001"),
        (p_is, 0.0123, "p = 0.012"), (p_is, 0.00099, "p < 0.001"), (p_is, NAN, "p = –"),
        (p_value, INF, "–"), (p_value, 1.0, "1.000"), (number, 99.96, "100"), (number, 100.4, "100"),
        (number, -100, "−100"),
        (number, 0.12345, "0.123"), (number, INF, "inf"), (number, 0.0, "0"), (number, 1234.5, "1,234"),
        (signed, 0.0, "0"), (signed, 1.23456, "+1.23"), (signed, -1.23456, "−1.23"), (signed, 1e-9, "+1e−09"),
        (percent, 0.12345, "12.3%"), (percent, NAN, "–"), (percent, INF, "–"), (percent, 0.0, "0.0%"),
        (points, 0.0, "+0.0"), (points, NAN, "–"), (points, -INF, "–"), (points, 1.0, "+100.0"),
    ],
)  # fmt: skip
def test_figures(write: Any, value: float, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize(
    ("low", "high", "plain", "difference"),
    [
        (0.1, 0.9, "10.0 – 90.0%", "+10.0 … +90.0"),
        (-0.25, 1.25, "0.0 – 100.0%", "−25.0 … +125.0"),
        (-INF, 0.5, "unbounded", "unbounded"),
        (0.5, INF, "unbounded", "unbounded"),
        (NAN, 1, "unbounded", "unbounded"),
    ],
)
def test_intervals(low: float, high: float, plain: str, difference: str) -> None:
    estimate = Estimate(0.5, low, high, 9, None, "")
    assert (interval(estimate), interval(estimate, signed=True)) == (plain, difference)


@pytest.mark.parametrize(
    ("name", "count", "share"),
    [("strict", None, True), ("flexible", None, True), ("accuracy", None, True), ("heldout/accuracy", None, True),
     ("margin", None, False), ("margin", 3, True), ("margin", 0, True), ("accuracy of a kind", None, False)],
)  # fmt: skip
def test_shares_are_told_in_percent(name: str, count: int | None, share: bool) -> None:
    assert is_share(name, Estimate(0.5, 0.4, 0.6, 9, count, "")) is share


@pytest.mark.parametrize(
    ("seconds", "text"),
    [([], ""), ([0.0], ""), ([1.4, 2.0], "3 s"), ([89.4], "89 s"), ([90.0], "2 min"), ([5365.0], "89 min"),
     ([5370.0], "1 h 30 min"), ([7260.0], "2 h 1 min")],
)  # fmt: skip
def test_durations(seconds: list[float], text: str) -> None:
    assert duration(run_data(timings={"seconds": seconds})) == text


def test_what_is_watched_stands_in_one_order() -> None:
    told = {name: mean_interval([float(i), i + 1.0]) for i, name in enumerate(reversed(["odd", *WATCHED]))}
    found = watched(Results(training=told))
    assert list(found) == list(WATCHED.values())
    assert found["length of samples"] == told["draft_length"]
    assert watched(Results(training={"odd": told["odd"]})) == {}


def test_one_run_s_models_go_by_their_own_names() -> None:
    assert labels([result("a", base=10, policy=20)]) == [{"base": "base", "policy": "policy"}]
    assert labels([]) == []
    several = [result("a", policy=20), result("b", base=10), result("c", base=11, policy=3)]
    assert labels(several) == [{"policy": "a"}, {"base": "base"}, {"base": "base of c", "policy": "c"}]
    found = entries(several)
    assert [(e.label, e.run) for e in found] == [("base", None), ("base of c", None), ("a", 0), ("c", 2)]
    assert found[0].estimates == {"strict": wilson(10, 100)}


def test_tests_go_by_the_names_of_the_page_and_stand_once() -> None:
    test = Comparison("base", "policy", "strict", 1, 2, 0.5)
    runs = [Results(name=n, models=result(n, base=10, policy=20).models, comparisons=(test, test)) for n in "ab"]
    assert comparisons(runs) == [
        Comparison("base", "a", "strict", 1, 2, 0.5), Comparison("base", "b", "strict", 1, 2, 0.5),
    ]  # fmt: skip
    odd = Comparison("base", "other", "strict", 1, 2, 0.5)
    assert comparisons([Results(name="a", comparisons=(odd,)), runs[1]])[0] == odd


def test_a_test_is_of_its_metric_and_its_two_models() -> None:
    tests = [Comparison("x", "y", "flexible", 1, 2, 0.1), Comparison("x", "y", "strict", 3, 4, 0.2)]
    assert against(tests, "y", "x", "strict") == tests[1]
    assert against(tests, "x", "y", "flexible") == Comparison("y", "x", "flexible", 2, 1, 0.1)
    assert against(tests, "x", "z", "strict") is against(tests, "z", "x", "strict") is None
    refuse_changes(tests[0], Entry("a", None, {}), result("a", base=1).models[0], slots=True)


def test_rows_are_of_one_metric_with_a_test_where_there_is_one() -> None:
    runs = [result("a", base=10, policy=20)]
    assert results_rows(runs) == [
        ("base", "100", "10.0%", interval(wilson(10, 100)), "–"),
        ("policy", "100", "20.0%", interval(wilson(20, 100)), "–"),
    ]
    assert results_rows(runs, "flexible") == []
    assert [row[0] for row in results_rows([result("a", base=1, policy=2, metric="flexible")], "flexible")] == [
        "base", "policy",
    ]  # fmt: skip


def test_rows_over_seeds() -> None:
    """A base that differs by seed is a mean of its own; without a base for every run there is no difference."""
    seeds = [result("a", base=b, policy=p) for b, p in ((10, 30), (14, 36))]
    mean, gain = mean_interval([0.3, 0.36]), mean_interval([0.2, 0.22])
    own = mean_interval([0.1, 0.14])
    first = ("base", "2", "12.0%", interval(own), "–", "–")
    assert seed_rows({"M": seeds}) == [
        first, ("M", "2", "33.0%", interval(mean), "+21.0", interval(gain, signed=True)),
    ]  # fmt: skip
    assert seed_rows({"M": [seeds[0], result("b", policy=36)]}) == [
        ("base", "1", "10.0%", interval(wilson(10, 100)), "–", "–"), ("M", "2", "33.0%", interval(mean), "–", "–"),
    ]  # fmt: skip
    assert seed_rows({"M": [result("b", policy=36)]}) == [("M", "1", "36.0%", "unbounded", "–", "–")]
    assert seed_rows({"M": [result("b", base=36)]}) == [("base", "1", "36.0%", interval(wilson(36, 100)), "–", "–")]
    assert seed_rows({"M": seeds}, "flexible") == []
    assert [row[0] for row in seed_rows({"M": seeds, "N": seeds})] == ["base", "M", "N"]
