"""Verdicts are those of Holm's method over all tests that a page draws them from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.made_up_runs import Make
from twofold.reports.findings import finding_row, findings, lead
from twofold.reports.run import Comparison, RunData, read_run
from twofold.reports.significance import Family


def with_test(run: RunData, p: float) -> RunData:
    """`run` with one test of this p-value, and without answers that others could be tested with."""
    test = Comparison("base", "policy", "strict", 1, 9, p, "made up")
    return replace(run, samples=(), results=replace(run.results, comparisons=(test,)))


def test_p_values_are_adjusted_over_bases_and_runs(make_run: Make) -> None:
    """base → dpo: 10 lost, 20 won; base → pdpo: 0 and 20; dpo → pdpo: 0 and 10 (two-sided coins)."""
    runs = [read_run(make_run("dpo", solved=(10, 20))), read_run(make_run("pdpo", solved=(10, 30)))]
    found = {(c.a, c.b): p for c, p in Family.of(runs).tests.items()}
    first = next(c.p_value for c in Family.of(runs).tests if (c.a, c.b) == ("base", "dpo"))
    third = next(c.p_value for c in Family.of(runs).tests if (c.a, c.b) == ("base", "pdpo"))
    plain = {("base", "dpo"): first, ("base", "pdpo"): third, ("dpo", "pdpo"): 2 / 2**10}
    ordered, expected, highest = sorted(plain, key=plain.__getitem__), {}, 0.0
    for rank, key in enumerate(ordered):
        highest = max(highest, min(1.0, (3 - rank) * plain[key]))
        expected[key] = highest
    assert found == pytest.approx(expected)


def test_what_is_significant_alone_may_not_be_among_many(make_run: Make) -> None:
    runs = [with_test(read_run(make_run(name)), 0.03) for name in ("a", "b")]
    [alone] = findings(runs[:1])
    assert (alone.verdict, alone.adjusted) == ("better", None)
    assert [(f.verdict, f.adjusted) for f in findings(runs)] == [("unclear", 0.06), ("unclear", 0.06)]
    assert finding_row(findings(runs)[0])[-3:] == ("0.030", "0.060", "unclear")


def test_eight_runs_are_tested_against_each_other_and_nine_against_their_base(make_run: Make) -> None:
    runs = [read_run(make_run(f"r{i}", solved=(10, 20 + i))) for i in range(9)]
    assert len(Family.of(runs[:8]).tests) == 8 + 28
    assert len(Family.of(runs).tests) == 9


@pytest.mark.parametrize(
    ("p", "end"),
    [
        (0.001, "50.0 points more than its base: chance does not explain the gain (McNemar’s p = 0.001)."),
        (0.4, "50.0 points more than its base: chance alone explains a difference like this (McNemar’s p = 0.400)."),
    ],
)
def test_the_lead_says_what_improved_and_whether_chance_explains_it(make_run: Make, p: float, end: str) -> None:
    assert lead([with_test(read_run(make_run("a")), p)]) == f"The trained model solves 75.0% of 40 problems, {end}"


def test_the_lead_without_a_test_says_so(make_run: Make) -> None:
    run = read_run(make_run("a"))
    run = replace(run, results=replace(run.results, comparisons=()))
    assert lead([run]).endswith("; no paired test was made.")
    assert lead([replace(run, results=replace(run.results, models=(), heldout={}))]) == ""
