"""What a page's script reads of a figure, and how steps become seconds and tokens."""

from __future__ import annotations

import json

import pytest

from support.made_up_runs import run_data
from twofold.reports import charts, figure_data
from twofold.reports.charts import Curve, Spec, draw
from twofold.reports.drawing import Frame, Line
from twofold.reports.figure_data import Drawn, clock, encoded

RUN = run_data(train={"a": [1.0, 2.5], "b": [0.1, 0.2]}, timings={"seconds": [2.0, 3.0], "tokens": [10, 30]})


def test_a_figure_has_its_axes_and_all_lines() -> None:
    line = Line([0, 1], [0.123456789, 2], "chosen", [0, 1], [1, 3], markers=True)
    figure = json.loads(
        encoded([Drawn("x", line, 3), Drawn("y" * 200, Line([5], [1], "ink"))], Frame("t", 10, -1, 4, percent=True))
    )
    assert figure["box"] == pytest.approx([36.432, 4.5, 274.03, 153])
    assert (figure["x"], figure["y"], figure["percent"]) == ([-0.2, 10.2], [-1, 4], True)
    assert figure["lines"] == [
        {
            "label": "x",
            "look": "chosen",
            "x": [0, 1],
            "y": [0.12346, 2],
            "low": [0, 1],
            "high": [1, 3],
            "markers": True,
            "run": 3,
        },
        {"label": "y" * 120, "look": "ink", "x": [5], "y": [1]},
    ]


def test_a_chart_has_the_lines_that_it_draws() -> None:
    several = Spec("Both", "note", (Curve("a", "first"), Curve("b", "second")))
    labels = [("p", "run-0"), ("q", "run-1")]
    (one,) = draw([Spec("One", "note", (Curve("a"),))], [RUN, RUN], labels)
    assert [(ln["label"], ln["run"], ln["y"]) for ln in json.loads(one.data)["lines"]] == [
        ("p", 0, [1, 2.5]),
        ("q", 1, [1, 2.5]),
    ]
    panels = [json.loads(chart.data)["lines"] for chart in draw([several], [RUN, RUN], labels)]
    assert [[(ln["label"], ln["run"]) for ln in panel] for panel in panels] == [
        [("first", 0), ("second", 0)], [("first", 1), ("second", 1)],
    ]  # fmt: skip


def test_a_clock_counts_from_the_first_step() -> None:
    assert clock(RUN) == {"steps": [0, 1, 2], "seconds": [0, 2, 5], "tokens": [0, 10, 40]}
    assert clock(run_data(timings={"seconds": [2.0]})) == {"steps": [0, 1], "seconds": [0, 2]}
    assert clock(run_data(timings={"tokens": [2.0]})) == clock(run_data()) == {}


def test_a_clock_is_short_and_counts_steps_that_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    long = clock(run_data(timings={"seconds": [1.0] * 1000}))
    assert len(long["steps"]) <= figure_data.TICKS + 1
    assert (long["steps"][-1], long["seconds"][-1]) == (1000, 1000)
    monkeypatch.setattr("twofold.reports.columns.MOST_LINES", 500)
    thinned = clock(run_data(timings={"seconds": [1.0] * 1000}))
    assert thinned["seconds"][-1] == pytest.approx(1000, rel=0.01)


def test_speed_and_memory_have_their_curves() -> None:
    run = run_data(
        timings={"seconds": [2.0], "tokens_per_second": [5.0], "drafts_per_second": [1.0], "memory_gib": [1.5]}
    )
    assert [(c.title, json.loads(c.data)["lines"][0]["y"]) for c in draw(charts.SPEED, [run], [("a", "run-0")])] == [
        ("Tokens per second", [5]), ("Samples per second", [1]), ("Seconds per step", [2]), ("Peak memory, GiB", [1.5]),
    ]  # fmt: skip
