"""Tokens, completions and facts of explained rows, each from what explain.json may hold."""

from __future__ import annotations

import math
from typing import Any

import pytest

from support.explained import estimate as made_up
from support.frozen import refuse_changes
from support.made_up_runs import run_data
from twofold.reports import displacement, explanation, heat
from twofold.reports.displacement import CauseRow, PatternRow, fall_in
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.heat import Completion, Explained, Token, explained, level, rows_of, scale_of
from twofold.reports.run import estimate
from twofold.statistics import Estimate


def completion(*credits: Any, **parts: Any) -> dict[str, Any]:
    return {"tokens": [{"text": f"t{i}", "credit": c} for i, c in enumerate(credits)], **parts}


def row(*completions: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {"name": "n", "prompt": "p", "completions": list(completions), **parts}


def test_control_characters_of_prompts_and_tokens_are_seen() -> None:
    """A picture each, also where a token is nothing else; line ends have a sign in tokens and stay in prompts."""
    texts = ["a\x1b", "\x07", "b\n", ""]
    told = {"tokens": [{"text": text, "credit": 1.0} for text in texts]}
    (found,) = rows_of([{**row(told), "prompt": "q\x1b[31m\n"}], 1.0, 9)
    assert found.prompt == "q␛[31m\n"
    assert [token.text for token in found.completions[0].tokens] == ["a␛", "␇", "b↵\n", "·"]


def test_tokens_without_a_credit_are_left_out_and_the_rest_is_counted() -> None:
    told = completion(1.0, "x", -0.5, None, math.nan, 0.25, label="chosen", reward=2, length=9)
    (found,) = rows_of([row(told)], 1.0, 2)
    assert found.completions == (
        Completion("chosen", 2.0, (Token("t0", 1.0, "p5"), Token("t2", -0.5, "m3")), 7),
    )  # fmt: skip
    (bare,) = rows_of([row(completion(1.0, -0.25))], 1.0, 9)
    assert (bare.completions[0].reward, bare.completions[0].hidden, bare.completions[0].label) == (0.75, 0, "")
    (short,) = rows_of([row(completion(1.0, 2.0, length=1))], 1.0, 9)
    assert short.completions[0].hidden == 0
    assert rows_of([row(completion("x")), row(), 3, {"completions": "x"}], 1.0, 9) == ()
    long = rows_of([row({"label": "l" * 70, "tokens": [{"text": "a" * 90, "credit": 1}]}, name="n" * 170)], 1.0, 9)[0]
    assert long.name == "n" * 160 + " … (10 more characters)"
    assert long.completions[0].label == "l" * 60 + " … (10 more characters)"
    assert long.completions[0].tokens[0].text == "a" * 80 + " … (10 more characters)"
    refuse_changes(found, found.completions[0], found.completions[0].tokens[0], slots=True)


@pytest.mark.parametrize(
    ("parts", "facts"),
    [
        ({}, ""), ({"margin": 0.5}, "margin +0.5"), ({"margin": "x"}, ""), ({"margin": -0.5, "opening": None}, ""),
        ({"margin": -0.5, "opening": 1}, "margin −0.5; both begin with the same 1 token"),
        ({"margin": 0, "opening": 2}, "margin 0; both begin with the same 2 tokens"),
        ({"margin": 1, "chosen_change": -1.25, "likely": "opening"},
         "margin +1; chosen fell 1.25 nats, likely cause: on the opening"),
        ({"margin": 1, "chosen_change": -1.25, "likely": "odd"}, "margin +1"),
        ({"margin": 1, "chosen_change": "x", "likely": "opening"}, ""),
    ],
)  # fmt: skip
def test_facts_of_a_row(parts: dict[str, Any], facts: str) -> None:
    assert heat._facts(parts) == facts


@pytest.mark.parametrize(
    ("credit", "scale", "strength"),
    [(0.05, 1.0, 0), (0.0501, 1.0, 1), (0.25, 1.0, 1), (0.2501, 1.0, 2), (0.85, 1.0, 4), (0.86, 1.0, 5), (7.0, 1.0, 5),
     (-0.25, 1.0, -1), (-7.0, 1.0, -5), (1.0, 0.0, 0), (1.0, -1.0, 0), (math.inf, 1.0, 0), (1.0, 4.0, 1)],
)  # fmt: skip
def test_levels(credit: float, scale: float, strength: int) -> None:
    assert level(credit, scale) == strength


def test_the_strongest_colour_is_the_98th_percentile() -> None:
    assert scale_of([row(completion(*[float(i) for i in range(100)]))]) == 98.0
    assert scale_of([row(completion(-3.0, 1.0)), row(completion(2.0))]) == 3.0
    assert scale_of([row(completion(7.0))]) == 7.0
    assert scale_of([3, {}]) == 0.0


def test_a_report_shows_six_rows_and_three_hundred_tokens() -> None:
    rows = [row(completion(*[1.0] * 310)) for _ in range(8)]
    found = explained(run_data(extra={"explain": {"rows": rows, "n": 99}}), "a")
    assert found is not None
    assert (found.run, found.n, found.scale, len(found.rows)) == ("a", 99, 1.0, 6)
    assert (len(found.rows[0].completions[0].tokens), found.rows[0].completions[0].hidden) == (300, 10)
    uncounted = explained(run_data(extra={"explain": {"rows": rows, "n": "many"}}), "a")
    assert uncounted is not None
    assert uncounted.n == 8
    for broken in ({}, {"rows": "x"}, [1], {"rows": []}, {"rows": [3]}):
        assert explained(run_data(extra={"explain": broken}), "a") is None
    last = explained(run_data(extra={"explain": {"rows": [*rows[:6], row(completion(50.0))]}}), "a")
    assert last is not None
    assert last.scale == 1.0  # of the rows that are shown
    refuse_changes(Explained("a", 1, 1.0, ()), slots=True)


def test_a_page_has_room_for_nine_thousand_tokens_but_forty_of_each_at_least() -> None:
    assert explanation.most_of([row(completion(1.0))] * 9) == 1000
    assert explanation.most_of([row(completion(1.0), completion(1.0))] * 9) == 500
    assert explanation.most_of([row(completion(1.0))] * 1000) == 40
    assert explanation.most_of([]) == 9000
    assert math.isnan(explanation._estimate({}).value)
    assert explanation._estimate(made_up(0.5)) == estimate(made_up(0.5))


def test_a_fall_in_all_its_parts() -> None:
    told = {
        "verdict": "v", "remedy": "r", "cause": "opening",
        "causes": {"opening": {"nats": made_up(1.0), "tokens": 0.25}, "shared": {"nats": made_up(2.0), "tokens": 1},
                   "pattern": {"nats": 3, "tokens": 1}, "elsewhere": {"nats": made_up(1.0), "tokens": "x"}},
        "chosen": made_up(-1.0), "unlike": made_up(-2.0), "alike": 3,
        "patterns": [{"text": "t", "nats": 1, "chosen": 2, "rejected": 3}, {"text": "u"}],
        "positions": {"chosen": [made_up(0.0), made_up(-1.0), 4], "rejected": [made_up(1.0)]},
    }  # fmt: skip
    fall = fall_in(told, "a")
    assert fall is not None
    assert (fall.run, fall.verdict, fall.remedy) == ("a", "v", "r")
    nats = [estimate(made_up(x)) for x in (2.0, 1.0)]
    assert fall.causes == [
        CauseRow("also in rejected", nats[0], 1.0, False),
        CauseRow("other tokens of the opening", nats[1], 0.25, True),
    ]  # fmt: skip
    assert [(words, e.value) for words, e in fall.sides] == [
        ("chosen", -1.0), ("chosen, where they are least alike", -2.0),
    ]  # fmt: skip
    assert fall.patterns == [PatternRow("t", 1.0, 2, 3)]
    (chart,) = fall.charts
    assert (chart.title, chart.legend, chart.keys, chart.axis) == (
        "Change by position", (("chosen", "chosen"),), ("displacement",), "token of the completion",
    )  # fmt: skip
    assert chart.note == (
        "Mean change of each token's log-probability against the reference, in nats. Band: 95% over pairs."
    )
    ends = [estimate(made_up(x)) for x in (0.0, -1.0)]
    line = Line(range(2), [0.0, -1.0], "chosen", [e.low for e in ends if e], [e.high for e in ends if e], markers=True)
    assert chart.svg == svg([line], Frame("Change by position", 1, -1.1 - 0.072, 0.1 + 0.072, 0.0))
    for nothing in ({}, {"verdict": ""}, {"remedy": "r"}):
        assert fall_in(nothing, "a") is None
    bare = fall_in({"verdict": "v", "positions": {"chosen": [made_up(0.0)]}}, "a")
    assert bare is not None
    assert (bare.remedy, bare.charts, bare.causes) == ("", [], [])
    refuse_changes(fall, fall.causes[0], fall.patterns[0], slots=True)


def test_long_curves_by_position_have_no_markers() -> None:
    def chart(count: int) -> str:
        found = displacement._chart({"chosen": [Estimate(float(i), i - 1, i + 1, 9, None, "") for i in range(count)]})
        assert found is not None
        return found.svg

    assert chart(30).count("<use") - chart(31).count("<use") >= 29
