"""The sentences at the top of a page follow from the figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.made_up_runs import Make, lines, sample
from twofold.reports.findings import between, findings, worries
from twofold.reports.run import Comparison, RewardResult, RunData, read_run
from twofold.reports.significance import all_tests
from twofold.statistics import wilson


def said(run: RunData) -> str:
    return "\n".join(w.text for w in worries([run], [run.name]))


def test_a_gain_beyond_chance(make_run: Make) -> None:
    [finding] = findings([read_run(make_run("pdpo", solved=(10, 30)))])
    assert (finding.entry.label, finding.metric, finding.difference, finding.verdict) == (
        "policy", "strict", "+50.0", "better",
    )  # fmt: skip
    assert finding.heldout is not None
    assert (finding.heldout.value, finding.before) == (0.8, 0.5)


@pytest.mark.parametrize(("solved", "verdict"), [((20, 20), "unclear"), ((30, 0), "worse")])
def test_other_verdicts(make_run: Make, solved: tuple[int, int], verdict: str) -> None:
    assert findings([read_run(make_run("pdpo", solved=solved))])[0].verdict == verdict


def test_without_judged_problems_the_held_out_pairs_lead(make_run: Make) -> None:
    run = read_run(make_run("pdpo"))
    run = replace(run, results=replace(run.results, models=(), comparisons=()))
    [finding] = findings([run])
    assert (finding.metric, finding.estimate.value, finding.before) == ("heldout/accuracy", 0.8, 0.5)


def test_runs_are_compared_by_their_samples(make_run: Make) -> None:
    runs = [read_run(make_run("dpo", solved=(10, 20))), read_run(make_run("pdpo", solved=(10, 30)))]
    assert Comparison("dpo", "pdpo", "strict", 0, 10, 2 / 2**10, "McNemar exact") in all_tests(runs)
    assert between(runs) == [
        "pdpo but not dpo solves 10 problems, dpo but not pdpo 0 "
        "(McNemar p = 0.002, 0.006 by Holm over 3 tests): pdpo is better."
    ]
    assert "pdpo but not dpo solves 10" in between(runs[::-1])[0]


def test_runs_that_solve_the_same_problems(make_run: Make) -> None:
    runs = [read_run(make_run(name)) for name in ("dpo", "pdpo")]
    assert between(runs) == ["pdpo and dpo solve exactly the same problems."]


def test_runs_are_not_compared_on_part_of_the_problems(make_run: Make) -> None:
    runs = [read_run(make_run(name)) for name in ("dpo", "pdpo")]
    runs[1] = replace(runs[1], samples=runs[1].samples[:-1])
    assert between(runs) == []


def test_a_sound_run_worries_only_about_its_few_problems(make_run: Make) -> None:
    assert said(read_run(make_run("pdpo"))) == "40 problems place an accuracy only within ±13 points"


def test_recorded_warnings_and_faults_come_first_with_their_run(make_run: Make) -> None:
    runs = [read_run(make_run(name)) for name in ("dpo", "pdpo")]
    runs[1] = replace(runs[1], results=replace(runs[1].results, warnings=("look here",)), faults=("half a line",))
    found = [(w.run, w.text) for w in worries(runs, ["dpo", "pdpo"])]
    assert found[1] == ("pdpo", "look here")
    assert found[-1] == ("pdpo", "half a line")


def test_sinking_chosen_completions(make_run: Make) -> None:
    folder = make_run("pdpo")
    rows = [{"kind": "train", "step": s, "chosen_logp": -20.0 - s} for s in range(1, 41)]
    lines(folder / "metrics.jsonl", rows)
    assert "chosen completions lost 36.0 nats" in said(read_run(folder))


@pytest.mark.parametrize(
    ("first", "last", "warning"),
    [
        ({"draft_length": 20.0}, {"draft_length": 60.0}, "samples went from 20 to 60 tokens"),
        ({"truncated": 0.0}, {"truncated": 0.25}, "25.0% of the last samples hit the length limit"),
    ],
)
def test_drafts_that_go_astray(make_run: Make, first: dict[str, Any], last: dict[str, Any], warning: str) -> None:
    folder = make_run("pdpo")
    rows = [{"kind": "train", "step": s, **(first if s <= 20 else last)} for s in range(1, 41)]
    lines(folder / "metrics.jsonl", rows)
    assert warning in said(read_run(folder))


def test_accuracy_that_collapsed(make_run: Make) -> None:
    folder = make_run("pdpo")
    rows = [
        {"kind": "evaluation", "step": s, "exact_match/strict": a, "exact_match/n": 500}
        for s, a in ((0, 0.36), (40, 0.92), (80, 0.35))
    ]
    lines(folder / "metrics.jsonl", rows)
    assert "exact_match/strict peaked at step 40 (92.0%) and ended at 35.0%" in said(read_run(folder))


def test_a_gain_in_form_alone(make_run: Make) -> None:
    folder = make_run("pdpo")
    results = json.loads((folder / "results.json").read_text())
    flexible = {**results["comparisons"][0], "metric": "flexible", "only_a": 5, "only_b": 5, "p_value": 1.0}
    results["comparisons"].append(flexible)
    (folder / "results.json").write_text(json.dumps(results))
    assert "learned the form" in said(read_run(folder))


@pytest.mark.parametrize(
    ("strict", "flexible", "form"),
    [((0, 20), (5, 5), True), ((20, 0), (5, 5), False), ((0, 20), (0, 15), False), ((4, 5), (5, 5), False)],
)
def test_form_alone_is_a_gain_in_strict_and_none_in_flexible(
    make_run: Make, strict: tuple[int, int], flexible: tuple[int, int], form: bool
) -> None:
    """`(lost, won)` by metric: strict that fell, or a flexible that rose too, is no matter of form."""
    run = read_run(make_run("pdpo"))
    coin = {(0, 20): 2e-6, (20, 0): 2e-6, (0, 15): 6e-5, (5, 5): 1.0, (4, 5): 1.0}
    tests = tuple(
        Comparison("base", "policy", metric, *counts, coin[counts])
        for metric, counts in (("strict", strict), ("flexible", flexible))
    )
    assert ("learned the form" in said(replace(run, results=replace(run.results, comparisons=tests)))) == form


def test_answers_cut_off_and_pairs_too_easy(make_run: Make) -> None:
    folder = make_run("pdpo")
    lines(folder / "samples.jsonl", [{**sample(40, i, False), "truncated": i < 8} for i in range(40)])
    lines(folder / "metrics.jsonl", [{"kind": "evaluation", "step": 40, "heldout/accuracy": 1.0}])
    assert "8 of 40 evaluated completions were cut" in said(read_run(folder))
    assert "nearly 100%" in said(read_run(folder))


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    assert findings([read_run(tmp_path)]) == []
    assert "nothing to report yet" in said(read_run(tmp_path))


@pytest.mark.parametrize(
    ("right", "longer", "rule"), [(90, 88, "longer"), (90, 10, "shorter"), (90, 60, ""), (60, 50, "")]
)
def test_a_reward_model_that_may_have_learned_length(make_run: Make, right: int, longer: int, rule: str) -> None:
    run = read_run(make_run("rm"))
    reward = RewardResult(wilson(right, 100), wilson(longer, 100), (), 0.1, 0.001, ())
    told = said(replace(run, results=replace(run.results, reward=reward)))
    assert ("may be all it learned" in told) == bool(rule)
    assert not rule or f"the {rule} answer wins" in told
