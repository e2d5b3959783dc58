"""Verdicts are those of Holm's method over all tests that a page draws them from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.made_up_runs import Make
from twofold.reports.findings import between, finding_row, findings, lead
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
        (0.4, "50.0 points more than its base: chance explains a difference like this (McNemar’s p = 0.400)."),
    ],
)
def test_the_lead_says_what_improved_and_whether_chance_explains_it(make_run: Make, p: float, end: str) -> None:
    assert lead([with_test(read_run(make_run("a")), p)]) == f"The trained model solves 75.0% of 40 problems, {end}"


@pytest.mark.parametrize(
    ("between_p", "next_words", "verdict"),
    [
        (0.03, "no further away than chance explains", "chance explains a difference like this."),
        (0.001, "beyond chance", "b is better."),
    ],
)
def test_words_about_several_runs_are_by_holm(make_run: Make, between_p: float, next_words: str, verdict: str) -> None:
    """Each of three tests at p = 0.03 is significant alone and none together: 0.09 by Holm. With one at 0.001 that one
    is (0.003), and the others stand at 0.06."""
    runs = [with_test(read_run(make_run(name, solved=(10, n))), 0.03) for name, n in (("a", 20), ("b", 30))]
    test = Comparison("a", "b", "strict", 2, 9, between_p, "made up")
    own = runs[1].results
    runs[1] = replace(runs[1], results=replace(own, comparisons=(*own.comparisons, test)))
    other = "0.090" if between_p == 0.03 else "0.060"
    told = "b solves 75.0% of 40 problems, 50.0 points more than its base: chance explains a difference like this"
    assert lead(runs) == f"{told} (Holm’s p = {other}). a comes next, {next_words}."
    size = f"McNemar p = {between_p:.3f}, {'0.090' if between_p == 0.03 else '0.003'} by Holm over 3 tests"
    assert between(runs) == [f"b but not a solves 9 problems, a but not b 2 ({size}): {verdict}"]
    assert between(runs[::-1]) == between(runs)


def test_no_probability_at_all_is_beyond_chance(make_run: Make) -> None:
    """p of thousands of problems is 0 in floating point."""
    runs = [with_test(read_run(make_run(name, solved=(10, n))), 0.03) for name, n in (("a", 20), ("b", 30))]
    own = runs[1].results
    test = Comparison("a", "b", "strict", 2, 9, 0.0, "made up")
    runs[1] = replace(runs[1], results=replace(own, comparisons=(*own.comparisons, test)))
    assert lead(runs).endswith("a comes next, beyond chance.")


@pytest.mark.parametrize(
    ("solved", "words"),
    [
        ((30, 10), "The trained model solves 25.0% of 40 problems, 50.0 points fewer than its base: chance does not "
                   "explain the loss (McNemar’s p < 0.001)."),
        ((20, 20), "The trained model solves 50.0% of 40 problems, as many as its base: chance"),
    ],
)  # fmt: skip
def test_a_loss_is_a_loss(make_run: Make, solved: tuple[int, int], words: str) -> None:
    run = read_run(make_run("a", solved=solved))
    if solved == (30, 10):
        test = Comparison("base", "policy", "strict", 20, 0, 2 / 2**20, "made up")
        run = replace(run, results=replace(run.results, comparisons=(test,)))
    assert lead([run]).startswith(words)


def test_the_lead_without_a_test_says_so(make_run: Make) -> None:
    run = read_run(make_run("a"))
    run = replace(run, results=replace(run.results, comparisons=()))
    assert lead([run]).endswith("; no paired test was made.")
    assert lead([replace(run, results=replace(run.results, models=(), heldout={}))]) == ""
