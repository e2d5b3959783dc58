"""The parts of a tuning page by value: its facts, the order of trials, verdicts, and what a chart holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twofold.reports import tune
from twofold.statistics import wilson

Row = dict[str, Any]


def rung(count: int | None, step: int = 5, **about: Any) -> Row:
    figures = {"value": None} if count is None else wilson(count, 100).as_dict()
    return {"step": step, "on": False, **figures, **about}


def trial(number: int, *rungs: Row) -> Row:
    return {"number": number, "words": f"beta {number}", "rungs": list(rungs)}


TRIALS = [trial(1, rung(60)), trial(2, rung(None)), trial(0, rung(60), rung(90, 10)), trial(3, rung(70))]


def method(*trials: Row, **more: Any) -> Row:
    return {"name": "DPO", "winner": 0, "trials": list(trials or TRIALS), **more}


def drawn(of: Row, index: int = 0) -> Row:
    chart = tune.rung_chart(of, index)
    assert chart is not None
    assert (chart.title, chart.run, chart.axis, chart.legend) == ("Rungs", "DPO", "step", ())
    assert 'aria-label="Rungs of DPO"' in chart.svg
    return json.loads(chart.data)


def test_a_chart_holds_every_trial_that_was_measured() -> None:
    """The winner has whiskers and its method's color; the scale holds its intervals (50.2 to 94.5%) and a margin."""
    figure = drawn(method())
    *others, winner = figure["lines"]
    gray = {"look": "run-5", "x": [5], "markers": True, "whiskers": True}
    assert others == [{"label": "beta 3", "y": [0.7], **gray}, {"label": "beta 1", "y": [0.6], **gray}]
    assert (winner["label"], winner["look"], winner["x"], winner["y"]) == ("beta 0", "run-0", [5, 10], [0.6, 0.9])
    assert (winner["low"], winner["high"]) == (pytest.approx([0.502, 0.8256], abs=1e-4),
                                               pytest.approx([0.6906, 0.9448], abs=1e-4))  # fmt: skip
    assert figure["y"] == pytest.approx([0.4754, 0.9714], abs=2e-4)
    assert (figure["x"], figure["percent"]) == ([-0.2, 10.2], True)


def test_a_scale_has_a_margin_of_two_points_at_least() -> None:
    assert drawn(method(trial(0, rung(None)), trial(1, rung(60))))["y"] == [0.58, 0.62]
    assert tune.rung_chart(method(trial(0, rung(None))), 0) is None


@pytest.mark.parametrize(("index", "look"), [(0, "run-0"), (4, "run-4"), (5, "run-0"), (6, "run-1")])
def test_five_colors_are_of_methods(index: int, look: str) -> None:
    assert drawn(method(), index)["lines"][-1]["look"] == look


def test_sixty_trials_are_drawn_and_the_winner_among_them() -> None:
    labels = [line["label"] for line in drawn(method(*(trial(n, rung(60)) for n in range(70, -1, -1))))["lines"]]
    assert (len(labels), labels[-1], labels[0]) == (60, "beta 0", "beta 12")


def test_trials_stand_by_how_far_they_came_and_then_by_their_figure() -> None:
    about = tune._about(method(confirmed=wilson(170, 200).as_dict(), development=wilson(90, 100).as_dict()), 1)
    assert (about["look"], about["words"], about["fall"]) == ("run-1", "beta 0", "−5.0")
    assert (about["confirmed"], about["development"]) == (wilson(170, 200), wilson(90, 100))
    shown = [(row["words"], row["wins"], row["note"], row["estimate"] and row["estimate"].value)
             for row in about["rows"]]  # fmt: skip
    assert shown == [
        ("beta 0", True, "best", 0.6), ("beta 0", True, "best", 0.9), ("beta 3", False, "best", 0.7),
        ("beta 1", False, "best", 0.6), ("beta 2", False, "numbers were not finite", None),
    ]  # fmt: skip
    bare = tune._about(method(development=wilson(90, 100).as_dict()), 0)
    assert (bare["confirmed"], bare["fall"], bare["development"]) == (None, None, wilson(90, 100))


@pytest.mark.parametrize(
    ("ps", "p", "verdict"),
    [({"p_value": 0.01, "p_holm": 0.049}, 0.049, "beyond noise"), ({"p_value": 0.01, "p_holm": 0.05}, 0.05,
      "within noise"), ({"p_value": 0.04}, 0.04, "beyond noise"), ({"p_value": 0.2}, 0.2, "within noise")],
)  # fmt: skip
def test_a_test_is_judged_by_holm_where_there_is_one(ps: Row, p: float, verdict: str) -> None:
    difference = {**wilson(5, 10).as_dict(), "value": -0.05}
    found = tune._test({"a": "x", "b": "y", "difference": difference, "test": "McNemar exact", **ps})
    assert (found["p"], found["verdict"], found["points"], found["test"]) == (p, verdict, "−5.0", "McNemar exact")
    assert (found["a"], found["b"], found["difference"].value) == ("x", "y", -0.05)


def test_facts_are_what_was_measured_and_at_what_cost() -> None:
    figures: Row = {
        "figure": {"task": "answers", "metric": "strict"}, "budget": {"unit": "steps", "each": 2000}, "seeds": [0, 7],
        "development": {"file": "d.jsonl", "n": 1000}, "confirm": {"file": "c.jsonl", "n": 200},
    }  # fmt: skip
    assert tune.facts(figures) == [
        "Figure: strict of task answers", "Development: 1,000 rows of d.jsonl",
        "Fresh: 200 rows of c.jsonl, measured once", "Budget of each method: 2,000 steps; seeds 0, 7",
    ]  # fmt: skip
    assert tune.facts({**figures, "budget": {"unit": "tokens", "each": 9}})[3] == (
        "Budget of each method: 9 tokens; seeds 0, 7"
    )


def test_a_limit_of_kl_is_a_fact_and_each_trial_shows_its_own() -> None:
    figures: Row = {
        "figure": {"task": "win-rate", "metric": "wins", "reference": "base", "max_kl": 10.0},
        "budget": {"unit": "steps", "each": 8}, "seeds": [0],
        "development": {"file": "d.jsonl", "n": 9}, "confirm": {"file": "c.jsonl", "n": 9},
    }  # fmt: skip
    assert tune.facts(figures)[4:] == ["A trial is out whose KL from base is more than 10 nats"]
    assert tune.note_of({"value": None, "kl": 70.12}) == "out: KL 70.1 nats"
    assert tune.note_of({"value": None}) == "numbers were not finite"
    assert tune.note_of({"value": 0.5, "kl": 2.0}) == "best; KL 2.0 nats"


def test_a_method_may_lead_alone_and_there_may_be_none() -> None:
    one = method(confirmed=wilson(180, 200).as_dict())
    verdict: Row = {"best": "DPO", "within_noise": [], "worse": []}
    assert tune.lead({"methods": [one], "verdict": verdict}) == "DPO has the confirmed figure 90.0% (85.1 – 93.4%)."
    shared = {**verdict, "within_noise": ["IPO"]}
    assert tune.lead({"methods": [one, {**one, "name": "IPO"}], "verdict": shared}) == (
        "The best confirmed figure, 90.0% (85.1 – 93.4%), is shared by DPO, IPO."
    )
    assert tune.lead({"methods": [one], "verdict": {**verdict, "best": None}}) == "Every trial is out."
