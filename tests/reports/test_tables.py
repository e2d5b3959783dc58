"""Figures are written as people read them, and rows say what was measured and no more."""

from __future__ import annotations

import math

import pytest

from support.made_up_runs import Make
from twofold.reports.run import Comparison, Results, read_run
from twofold.reports.tables import (
    against,
    duration,
    entries,
    interval,
    labels,
    number,
    p_value,
    percent,
    points,
    results_rows,
    seed_rows,
    unique,
)
from twofold.statistics import mean_interval, wilson


def result(name: str, base: int, policy: int, n: int = 100) -> Results:
    models = [{"name": m, "strict": wilson(k, n).as_dict()} for m, k in (("base", base), ("policy", policy))]
    test = {"a": "base", "b": "policy", "metric": "strict", "only_a": 1, "only_b": 9, "p_value": 0.0215, "test": "t"}
    return Results.of({"name": name, "models": models, "comparisons": [test]})


@pytest.mark.parametrize(
    ("p", "told"),
    [(1.0, "1.000"), (0.0312, "0.031"), (0.000944, "< 0.001"), (0.0, "< 0.001"), (math.nan, "–")],
)
def test_p_values(p: float, told: str) -> None:
    assert p_value(p) == told


def test_shares_and_differences() -> None:
    assert percent(0.8944) == "89.4%"
    assert points(0.506) == "+50.6"
    assert points(-0.021) == "−2.1"
    assert interval(wilson(50, 100)) == "40.4 – 59.6%"
    assert interval(mean_interval([0.1])) == "unbounded"
    assert interval(mean_interval([0.97, 1.0, 1.0])) == "94.7 – 100.0%"


def test_numbers() -> None:
    assert [number(v) for v in (0.030234, -22.46, 123.4, -12345.6, 1e-7)] == [
        "0.0302",
        "−22.5",
        "123",
        "−12,346",
        "1e−07",
    ]


def test_rows_of_one_run() -> None:
    assert results_rows([result("pdpo", 36, 89)]) == [
        ("base", "100", "36.0%", "27.3 – 45.8%", "–"),
        ("policy", "100", "89.0%", "81.4 – 93.7%", "0.021"),
    ]


def test_rows_of_several_runs_tell_a_shared_base_once() -> None:
    rows = results_rows([result("DPO", 36, 80), result("PDPO", 36, 89)])
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("base", "36.0%", "–"), ("DPO", "80.0%", "0.021"), ("PDPO", "89.0%", "0.021"),
    ]  # fmt: skip
    assert results_rows([result("DPO", 36, 80)], metric="flexible") == []


def test_bases_that_differ_say_whose_they_are() -> None:
    results = [result("DPO", 36, 80), result("PDPO", 40, 89), result("PDPO", 36, 89)]
    assert labels(results) == [
        {"base": "base", "policy": "DPO"},
        {"base": "base of PDPO", "policy": "PDPO"},
        {"base": "base", "policy": "PDPO (2)"},
    ]
    assert [e.label for e in entries(results)] == ["base", "base of PDPO", "DPO", "PDPO", "PDPO (2)"]


def test_a_test_is_turned_round() -> None:
    test = Comparison("policy", "base", "strict", 9, 1, 0.02, "t")
    assert against([test], "policy", "base", "strict") == Comparison("base", "policy", "strict", 1, 9, 0.02, "t")
    assert against([test], "policy", "base", "flexible") is None


def test_rows_over_seeds_pair_each_run_with_its_own_base() -> None:
    rows = seed_rows({"DPO": [result("d", 36, k) for k in (78, 80, 82)], "PDPO": [result("p", 36, 80)]})
    assert rows[0] == ("base", "1", "36.0%", "27.3 – 45.8%", "–", "–")
    assert rows[1] == ("DPO", "3", "80.0%", "75.0 – 85.0%", "+44.0", "+39.0 … +49.0")
    assert rows[2] == ("PDPO", "1", "80.0%", "unbounded", "+44.0", "unbounded")


def test_names_are_told_apart() -> None:
    assert unique(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


def test_duration_is_the_sum_of_the_steps(make_run: Make) -> None:
    assert duration(read_run(make_run("a", steps=40))) == "20 s"
    assert duration(read_run(make_run("b", steps=400))) == "3 min"
    assert duration(read_run(make_run("c", steps=20_000))) == "2 h 47 min"
