"""The sentences at the top of a page, each from a test that is written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.frozen import refuse_changes
from support.made_up_runs import run_data
from twofold.reports.findings import (
    HELDOUT,
    Finding,
    Review,
    Worry,
    between,
    finding_row,
    findings,
    lead,
    review,
)
from twofold.reports.run import Comparison, ModelResult, Results, RunData, SampleRow
from twofold.reports.significance import Family, all_tests, headline_metric
from twofold.reports.tables import Entry, entries
from twofold.statistics import mcnemar, wilson

N = 100


def made(
    name: str, base: int | None, policy: int, *tests: Comparison, metric: str = "strict", heldout: int | None = None
) -> RunData:
    counts = {"base": base, "policy": policy}
    models = tuple(ModelResult(m, {metric: wilson(k, N)}) for m, k in counts.items() if k is not None)
    known = {} if heldout is None else {"accuracy": wilson(heldout, N)}
    return run_data(name=name, results=Results(name=name, models=models, comparisons=tests, heldout=known))


def paired(p: float, lost: int = 1, won: int = 9, a: str = "base", b: str = "policy", metric: str = "strict") -> Any:
    return Comparison(a, b, metric, lost, won, p, "made up")


SOLVES = "The trained model solves {} of 100 problems, {}"


@pytest.mark.parametrize(
    ("base", "policy", "tests", "words"),
    [
        (10, 30, [paired(0.01)], "20.0 points more than its base: chance does not explain the gain "
                                 "(McNemar’s p = 0.010)."),
        (10, 30, [paired(0.05)], "20.0 points more than its base: chance explains a difference like this "
                                  "(McNemar’s p = 0.050)."),
        (30, 10, [paired(0.01, 9, 1)], "20.0 points fewer than its base: chance does not explain the loss "
                                        "(McNemar’s p = 0.010)."),
        (30, 30, [paired(1.0, 5, 5)], "as many as its base: chance explains a difference like this "
                                       "(McNemar’s p = 1.000)."),
        (10, 30, [], "20.0 points more than its base; no paired test was made."),
        (10, 30, [paired(0.01, 9, 1, "policy", "base")], "20.0 points more than its base: chance does not explain the "
                                                          "gain (McNemar’s p = 0.010)."),
        (10, 30, [paired(2.0)], "20.0 points more than its base; no paired test was made."),
    ],
)  # fmt: skip
def test_one_model_leads_against_its_base(base: int, policy: int, tests: list[Comparison], words: str) -> None:
    assert lead([made("a", base, policy, *tests)]) == SOLVES.format(f"{policy}.0%", words)


def test_a_model_without_a_base_leads_alone() -> None:
    assert lead([made("a", None, 30)]) == "The trained model solves 30.0% of 100 problems."
    assert lead([]) == lead([run_data()]) == ""
    assert lead([made("a", 10, 30, metric="margin")]).startswith("The trained model solves 30.0%")  # a share, by count


def test_held_out_pairs_lead_where_no_problems_were_judged() -> None:
    run = replace(made("a", None, 0, heldout=80), evaluations=({"step": 0, HELDOUT: 0.5}, {"step": 9, HELDOUT: 0.75}))
    run = replace(run, results=replace(run.results, models=()))
    (found,) = findings([run])
    assert found == Finding(Entry("a", 0, {}), HELDOUT, wilson(80, N), before=0.5)
    assert lead([run]) == "The trained model orders 80.0% of 100 pairs."
    assert finding_row(found) == ("a", HELDOUT, "100", "80.0%", "71.1 – 86.7%", "+30.0", "–", "–", "untested")
    late = replace(run, evaluations=({"step": 3, HELDOUT: 0.5},))
    assert findings([late])[0].before is None
    assert finding_row(findings([late])[0])[5] == "–"
    two = findings([run, replace(run, results=Results(name="b")), run])
    assert [(f.entry.label, f.entry.run) for f in two] == [("a", 0), ("a (3)", 2)]


def test_a_finding_as_a_row() -> None:
    (one,) = findings([made("a", 10, 30, paired(0.01), heldout=70)])
    assert (one.entry.label, one.metric, one.estimate, one.base) == ("policy", "strict", wilson(30, N), wilson(10, N))
    assert (one.test, one.verdict, one.heldout, one.before, one.adjusted) == (
        paired(0.01), "better", wilson(70, N), None, None,
    )  # fmt: skip
    assert finding_row(one) == ("policy", "strict", "100", "30.0%", "21.9 – 39.6%", "+20.0", "0.010", "–", "better")
    assert finding_row(findings([made("a", None, 30)])[0])[5:] == ("–", "–", "–", "untested")
    refuse_changes(one, Worry("a", "b"), Review((), (), ()), slots=True)


def test_several_runs_share_holm_and_each_has_its_own_base() -> None:
    runs = [made("a", 10, 30, paired(0.02)), made("b", 12, 40, paired(0.03))]
    one, two = findings(runs)
    assert (one.entry.label, one.base, one.adjusted, one.verdict) == ("a", wilson(10, N), 0.04, "better")
    assert (two.entry.label, two.base, two.adjusted) == ("b", wilson(12, N), 0.04)
    assert two.test == replace(paired(0.03), a="base of b", b="b")
    assert finding_row(one)[6:] == ("0.020", "0.040", "better")
    told = lead(runs)
    assert told == (
        "b solves 40.0% of 100 problems, 28.0 points more than its base: chance does not explain the gain (Holm’s p = "
        "0.040). a comes next; no paired test between the two was made."
    )
    assert lead(runs[::-1]) == told


@pytest.mark.parametrize(
    ("test", "words", "sentence"),
    [
        (paired(0.01, 1, 9, "a", "b"), "a comes next, beyond chance.",
         "b but not a solves 9 problems, a but not b 1 (McNemar p = 0.010): b is better."),
        (paired(0.05, 1, 9, "a", "b"), "a comes next, no further away than chance explains.",
         "b but not a solves 9 problems, a but not b 1 (McNemar p = 0.050): chance explains a difference like this."),
        (paired(0.5, 1, 0, "a", "b"), "a comes next, no further away than chance explains.",
         "a but not b solves 1 problem, b but not a 0 (McNemar p = 0.500): chance explains a difference like this."),
        (paired(0.5, 2000, 1000, "a", "b"), "a comes next, no further away than chance explains.",
         "a but not b solves 2,000 problems, b but not a 1,000 (McNemar p = 0.500): chance explains a difference like "
         "this."),
        (paired(1.0, 0, 0, "a", "b"), "a solves exactly the same problems.",
         "b and a solve exactly the same problems."),
    ],
)  # fmt: skip
def test_two_trained_models_beside_each_other(test: Comparison, words: str, sentence: str) -> None:
    runs = [made("a", None, 30), made("b", None, 40, test)]
    assert lead(runs) == f"b solves 40.0% of 100 problems. {words}"
    assert between(runs) == [sentence]


def test_of_more_than_four_models_no_sentences_are_made() -> None:
    tests = [paired(0.5, 1, 2, "r0", "r1")]
    runs = [made(f"r{i}", 10, 30 + i, *(tests if i == 1 else [])) for i in range(5)]
    assert len(between(runs[:4])) == 1
    assert between(runs) == []
    assert between([made("a", 10, 30, paired(0.5))]) == []  # a base is not trained


def judged(name: str, *right: bool, step: int = 5, flexible: bool | None = None) -> RunData:
    samples = tuple(SampleRow(step, f"t:{i}", strict=r, flexible=r if flexible is None else flexible)
                    for i, r in enumerate(right))  # fmt: skip
    figures = {"strict": wilson(sum(right), len(right))}
    if flexible is not None:
        figures["flexible"] = wilson(len(right) * flexible, len(right))
    return run_data(name=name, samples=samples, results=Results(name=name, models=(ModelResult("policy", figures),)))


def test_runs_are_tested_on_their_judged_answers() -> None:
    a, b = (True, False, False, True), (True, True, True, True)
    test = mcnemar(a, b)
    (found,) = all_tests([judged("a", *a), judged("b", *b)])
    assert found == Comparison("a", "b", "strict", 0, 2, test.p_value, test.test)
    both = all_tests([judged("a", *a, flexible=True), judged("b", *b, flexible=True)])
    assert [(c.metric, c.p_value) for c in both] == [("strict", test.p_value), ("flexible", 1.0)]
    assert all_tests([judged("a", *a), judged("b", *b[:3])]) == []  # not the same problems
    whole = judged("b", *b)
    assert all_tests([judged("a", *a), replace(whole, samples=whole.samples[:3])]) == []
    other = replace(whole, samples=tuple(replace(s, name=f"u:{s.name}") for s in whole.samples))
    assert all_tests([judged("a", *a), other]) == []
    assert all_tests([judged("a"), judged("b")]) == []
    own = replace(whole, results=replace(whole.results, comparisons=(Comparison("b", "a", "strict", 7, 7, 0.5),)))
    assert [c.only_a for c in all_tests([judged("a", *a), own])] == [7]  # it has that test already


def test_up_to_eight_runs_are_all_tested_with_each_other() -> None:
    runs = [judged(f"r{i}", True, i % 2 == 0) for i in range(9)]
    assert len(all_tests(runs[:8])) == 28
    assert all_tests(runs) == []


def test_the_metric_that_leads() -> None:
    def named(*metrics: str) -> list[Entry]:
        return [Entry("m", 0, dict.fromkeys(metrics, wilson(1, 2)))]

    assert headline_metric(named("flexible", "strict", "a")) == "strict"
    assert headline_metric(named("flexible", "a")) == "flexible"
    assert headline_metric(named("c", "b")) == "b"
    assert headline_metric(named()) is headline_metric([]) is None


def test_a_family_is_of_one_metric_with_ps_between_0_and_1() -> None:
    tests = [paired(0.0), paired(1.0, a="x"), paired(1.01, a="y"), paired(-0.1, a="z"), paired(0.1, metric="flexible")]
    family = Family.of([made("a", 10, 30, *tests)])
    assert family.tests == {tests[0]: 0.0, tests[1]: 1.0}
    assert family.find("policy", "base") == family.find("base", "policy") == tests[0]
    assert family.find("base", "x") is None
    assert (family.adjusted(tests[0].turned), family.adjusted(None), family.adjusted(tests[2])) == (0.0, None, None)
    assert [family.verdict(t) for t in (tests[0], tests[0].turned, tests[1], tests[2], None)] == [
        "better", "worse", "unclear", "untested", "untested",
    ]  # fmt: skip
    assert Family({tests[0]: 0.05}).verdict(tests[0]) == "unclear"
    assert family.sentence(tests[0]) == "McNemar p < 0.001, < 0.001 by Holm over 2 tests"
    assert Family({tests[0]: 0.05}).sentence(paired(0.5)) == "McNemar p = 0.500"
    assert Family({tests[0]: 0.05, tests[1]: 0.1}).sentence(paired(0.5, a="n")) == "McNemar p = 0.500"
    refuse_changes(family)


def test_a_review_names_runs_only_where_there_are_several() -> None:
    warned = replace(run_data(), results=Results(warnings=("w", "w")), faults=("f",))
    alone = review([warned], ["a"])
    assert alone.worries[0] == Worry("", "w")
    assert [w.text for w in alone.worries].count("w") == 1
    assert alone.worries[-1] == Worry("", "f")
    assert alone.words == ""
    assert review([warned, run_data()], ["a", "b"]).worries[0] == Worry("a", "w")
    with pytest.raises(ValueError):
        review([warned], [])
    assert Review((), ("x", "y"), ()).words == "Nothing to worry about in what was checked: x, y."
    assert Review((), ("x", "y"), ("z", "u")).words == ("No warning, but z, u could not be checked. Checked: x, y.")
    assert entries([]) == []
