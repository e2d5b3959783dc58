"""Rows, cards, clocks and rulers by value: broken matches, caps of names, digits, dates, and places."""

from __future__ import annotations

import datetime
import io
import json
import math
import re
from typing import Any

import pytest
import yaml

from support.made_up_runs import run_data
from twofold.data.profile import Profile
from twofold.data.report import Report
from twofold.reports import card, checks, columns, dataset, figure_data, frontier, provenance, tune
from twofold.reports.charts import Chart
from twofold.reports.columns import Lines
from twofold.reports.drawing import Frame, Line
from twofold.reports.figure_data import Drawn, clock, encoded
from twofold.reports.frontier import frontier_charts, win_rate_charts
from twofold.reports.run import MatchRow, Results, _effective, _match
from twofold.statistics import Estimate, wilson


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ({"step": 5, "name": "a", "share": 0.5}, MatchRow(5, "a", share=0.5)),
        ({"step": 5, "share": None, "prompt": None}, MatchRow(5)), ({"step": 5, "share": "x"}, MatchRow(0)),
        ({"step": math.nan, "other": "o"}, MatchRow(0, other="o")), ({"completion": 3}, MatchRow(0, completion="3")),
    ],
)  # fmt: skip
def test_matches_of_a_win_rate(line: dict[str, Any], row: MatchRow) -> None:
    assert _match(line) == row
    assert MatchRow(0).share == -1.0


@pytest.mark.parametrize(("bin", "n"), [({"effective": 0.4, "n": 9}, 1), ({"effective": 2.9}, 2), ({"n": 7.0}, 7)])
def test_bins_are_as_wide_as_one_comparison_at_least(bin: dict[str, float], n: int) -> None:
    assert _effective(bin) == n


@pytest.mark.parametrize(("size", "bad"), [(20, 0), (21, 1)])
def test_a_line_may_be_as_long_as_is_allowed(size: int, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of 10 bytes; only what is waiting for its end counts."""
    monkeypatch.setattr(columns, "MOST_BYTES", 20)
    monkeypatch.setattr(columns, "CHUNK", 10)
    text = '{"a": "' + "x" * (size - 9) + '"}'
    assert len(text) == size
    lines = Lines()
    outcome = [*lines.read(io.BytesIO(text.encode())), *lines.end()]
    assert (lines.bad, len(outcome)) == (bad, 1 - bad)


def test_without_counts_an_accuracy_is_taken_to_be_of_two_hundred_rows() -> None:
    """Of 200 rows 101 and 73 are apart beyond chance. Of 199 they are 100 and 73, of 201 they are 101 and 74."""
    run = run_data(evaluations={"heldout/accuracy": [0.503, 0.366]})
    assert checks.falls(run) == [
        "held-out accuracy peaked at step 0 (50.3%) and ended at 36.6%: an earlier checkpoint is better"
    ]
    for n, words in ((199, "chance may explain it"), (200, "an earlier checkpoint"), (201, "chance may explain it")):
        counted = run_data(evaluations={"heldout/accuracy": [0.503, 0.366], "heldout/n": [n, n]})
        (text,) = checks.falls(counted) or []
        assert words in text


RATE = {"against": "x", "value": 0.5, "low": 0.25, "high": 0.75, "n": 9}


def test_rates_of_one_temperature_stay_in_their_order() -> None:
    rows = [{**RATE, "temperature": t, "value": v} for t, v in ((1.0, 0.7), (0.5, 0.6), (1.0, 0.4), (0.5, 0.3))]
    (chart,) = win_rate_charts([run_data(extra={"win_rates": rows})], [("a", "run-0")])
    (line,) = json.loads(chart.data)["lines"]
    assert (line["x"], line["y"]) == ([0.5, 0.5, 1, 1], [0.6, 0.3, 0.7, 0.4])


def test_an_even_match_is_dotted_and_a_gain_has_no_such_line() -> None:
    (won,) = win_rate_charts([run_data(extra={"win_rates": [{**RATE, "temperature": 0}]})], [("a", "run-0")])
    rows = [{"of": "taste", "kl": k, "reward": 0.5} for k in (0, 1)]
    (gain,) = frontier_charts([run_data(extra={"frontier": rows})], [("a", "run-0")])
    dotted = [len(re.findall(r"stroke-dasharray: 1,2", chart.svg)) for chart in (won, gain)]
    assert dotted == [1, 0]
    frame = json.loads(won.data)
    assert (frame["percent"], frame["y"]) == (True, [0.22, 0.78])
    assert json.loads(gain.data)["x"] == [-0.02, 1.02]


def test_a_level_beyond_all_points_is_on_the_scale() -> None:
    low = {**RATE, "value": 0.1, "low": 0.05, "high": 0.15, "temperature": 0}
    (chart,) = win_rate_charts([run_data(extra={"win_rates": [low]})], [("a", "run-0")])
    assert json.loads(chart.data)["y"] == [0.023, 0.527]  # 0.05 to 0.5, and 6% of that on either side


def test_a_card_s_front_matter_is_in_its_own_letters_and_one_line_each() -> None:
    name = "é " * 60 + "tail"
    models = Results.of({"models": [{"name": "policy", "strict": wilson(1, 2).as_dict()}]}).models
    run = run_data(name=name, results=Results(models=models))
    front = card.front_matter(run)
    assert front["model-index"][0]["name"] == "é " * 60 + "… (4 more characters)"
    text = card.render_card(run).split("---\n")[1]
    assert f"- name: {'é ' * 60}… (4 more characters)\n" in text
    assert yaml.safe_load(text)["model-index"] == front["model-index"]
    (result,) = front["model-index"][0]["results"]
    assert result["task"] == {"type": "text-generation"}
    assert result["dataset"] == {"name": "evaluation", "type": "evaluation"}


@pytest.mark.parametrize(("limit", "shown"), [({}, 400), ({"limit": 3}, 3)])
def test_texts_of_a_card_have_a_limit(limit: dict[str, int], shown: int) -> None:
    assert card.plain("x" * 500, **limit) == "x" * shown + f" … ({500 - shown} more characters)"
    assert card.fenced("x" * 5, **({"limit": 4} if limit else {})) == (
        "```\nxxxx … (1 more characters)\n```" if limit else "```\nxxxxx\n```"
    )


def test_a_clock_has_seven_digits_and_at_most_120_stretches() -> None:
    outcome = clock(run_data(timings={"seconds": [1.23456789, 1000.0]}))
    assert outcome["seconds"] == [0, 1.234568, 1001.235]
    long = clock(run_data(timings={"seconds": [1.0] * 1000}))
    assert long["steps"] == [*range(0, 1000, 9), 1000]  # 1,001 places by ninths are 112, and the last
    assert long["seconds"] == long["steps"]
    assert clock(run_data(timings={"seconds": [1.0] * 119}))["steps"] == [*range(120)]
    assert clock(run_data(timings={"seconds": [1.0] * 120}))["steps"] == [*range(0, 121, 2)]


def test_a_figures_numbers_have_five_digits_and_a_histogram_its_centers() -> None:
    bars = Line((), [0.123456789, 0.5], "run-0", edges=[0.0, 1.0, 3.0])
    named = Drawn("é" * 121, Line([1.0], [123456.789], "ink"), 0)
    figure = json.loads(encoded([Drawn("a", bars), named], Frame("t", 3, 0, 1)))
    first, second = figure["lines"]
    assert first == {"label": "a", "look": "run-0", "x": [0.5, 2], "y": [0.12346, 0.5], "edges": [0, 1, 3],
                     "markers": True}  # fmt: skip
    assert second == {"label": "é" * 120, "look": "ink", "x": [1], "y": [123460], "run": 0}
    assert "percent" not in figure
    assert "é" in encoded([named], Frame("t", 3, 0, 1))
    assert ": " not in encoded([Drawn("a", bars)], Frame("t", 3, 0, 1))
    assert figure_data.DIGITS == 5


def test_settings_that_json_does_not_know_are_shown_as_text() -> None:
    runs = [run_data(settings={"data": [datetime.date(2026, 1, day)], "when": datetime.date(2026, 1, 3)}, name=str(day))
            for day in (1, 2, 1)]  # fmt: skip
    assert provenance.methods(runs) == [0, 1, 0]
    assert provenance.settings_diff(runs[:2]) == [("data", ('["2026-01-01"]', '["2026-01-02"]'))]


def names(count: int) -> Profile:
    """Origin, script and model number i was seen `count` − i times; and some rows have no origin."""
    profile = Profile()
    for i in range(count):
        profile.origins[f"o{i}"] = profile.scripts[f"s{i}"] = profile.wins[f"m{i}"] = count - i
    profile.origins[""] = 1
    return profile


def test_twelve_origins_scripts_and_models_are_shown_of_all() -> None:
    profile = names(13)
    total = sum(range(1, 14))
    assert dataset._origins(profile) == [(f"o{i}", 13 - i, (13 - i) / (total + 1)) for i in range(12)]
    page = dataset.dataset_page(Report("f", "pairs", 1, 1, (), None), profile, (), "t", [])
    for kind in "osm":
        assert f">{kind}11<" in page
        assert f">{kind}12<" not in page


def places(page: str) -> list[str]:
    return re.findall(r'<i style="left: ([^;]*); width: ([^"]*)"></i><u style="left: ([^"]*)">', page)


@pytest.mark.parametrize(
    ("e", "place"),
    [
        (Estimate(0.5, 0.25, 0.75, 9, None, ""), ("25.00%", "50.00%", "50.00%")),
        (Estimate(-0.25, -0.5, 0.25, 9, None, ""), ("0.00%", "75.00%", "0.00%")),
        (Estimate(1.5, 0.98765, 2.5, 9, None, ""), ("98.77%", "100.00%", "100.00%")),
    ],
)
def test_places_on_a_ruler_are_between_its_ends(
    e: Estimate, place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Profile, "win_rates", lambda self, most: [("m", e)])
    page = dataset.dataset_page(Report("f", "pairs", 1, 1, (), None), Profile(), (), "t", [])
    assert places(page) == [place]
    rung = {"step": 5, "on": True, "tied": False, **wilson(60, 100).as_dict()}
    method = {
        "name": "DPO", "recipe": "a.yaml", "grid": 3, "size": 1, "steps": 10, "winner": 0, "dropped": 0,
        "spent": {"steps": 20, "tokens": 2000, "seconds": 1.0}, "dropped_within_noise": 0, "development": rung,
        "trials": [{"number": 0, "values": {}, "words": "beta 0.1", "rungs": [rung]}], "confirmed": e.as_dict(),
    }  # fmt: skip
    figures = {
        "command": "twofold tune x.yaml", "eta": 2, "seeds": [0], "methods": [method], "comparisons": [],
        "figure": {"task": "answers", "metric": "strict"}, "budget": {"unit": "steps", "each": 20},
        "development": {"file": "d.jsonl", "n": 100}, "confirm": {"file": "c.jsonl", "n": 200},
        "verdict": {"best": "DPO", "within_noise": [], "worse": []},
    }  # fmt: skip
    assert places(tune.tune_page(figures, "t")) == [place]


def test_a_note_is_added_where_there_is_one() -> None:
    chart = Chart("t", "One.", "", (), ())
    assert frontier._with_note(chart, None) is chart
    noted = frontier._with_note(chart, frontier.judge_note({"judge_accuracy": "not measured"}))
    assert noted.note == "One. The judge's own accuracy is not measured."
