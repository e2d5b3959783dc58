"""What stands under charts of gain and of win rates: who judged, how many verdicts there are, and how many points."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.made_up_runs import run_data
from twofold.reports.frontier import frontier_charts, judge_note, win_rate_charts

LABEL = [("a", "run-0")]
ACCURACY = {"value": 0.81, "low": 0.72, "high": 0.87, "n": 1100}
UNKNOWN, KNOWN = (
    "The judge's own accuracy is not measured.",
    "The judge is right on 81.0% (72.0 – 87.0%) of 1,100 labeled pairs.",
)
SHARE = "Share of comparisons won against x, by sampling temperature. Whiskers: 95%. Dotted: evenly matched."


def rate(temperature: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"against": "x", "temperature": temperature, "value": 0.5, "low": 0.25, "high": 0.75, "n": 1200, **more}


@pytest.mark.parametrize(
    ("row", "note"),
    [({}, None), ({"judge_accuracy": "not measured"}, UNKNOWN), ({"judge_accuracy": ACCURACY}, KNOWN),
     ({"judge_accuracy": {"value": 0.5}}, None)],
)  # fmt: skip
def test_a_judge_is_known_by_its_own_accuracy(row: dict[str, Any], note: str | None) -> None:
    assert judge_note(row) == note


@pytest.mark.parametrize(
    ("more", "notes"),
    [
        ({}, []), ({"missing": 0}, []), ({"missing": 0.4}, []), ({"missing": "x"}, []),
        ({"missing": 3}, ["1,200 of 1,203 answers have a verdict."]),
        ({"missing": 3, "judge_accuracy": ACCURACY}, ["1,200 of 1,203 answers have a verdict.", KNOWN]),
        ({"judge_accuracy": "not measured"}, [UNKNOWN]),
    ],
)  # fmt: skip
def test_verdicts_that_are_missing_are_counted(more: dict[str, Any], notes: list[str]) -> None:
    (chart,) = win_rate_charts([run_data(extra={"win_rates": [rate(**more)]})], LABEL)
    assert chart.note == " ".join([SHARE, *notes])


def test_each_gain_has_the_note_on_its_own_judge() -> None:
    rows = [{"of": of, "kl": kl, "reward": 0.5} for of in ("taste", "tone") for kl in (0, 1)]
    rows[3]["judge_accuracy"] = "not measured"
    taste, tone = frontier_charts([run_data(extra={"frontier": rows})], LABEL)
    assert (taste.title, tone.title) == ("Taste against KL", "Tone against KL")
    assert tone.note == f"{taste.note} {UNKNOWN}"


def test_forty_temperatures_are_drawn_from_the_lowest_up() -> None:
    rates = [rate(float(t)) for t in range(49, -1, -1)]
    (chart,) = win_rate_charts([run_data(extra={"win_rates": rates})], LABEL)
    (line,) = json.loads(chart.data)["lines"]
    assert line["x"] == list(range(40))
    assert (line["look"], line["label"]) == ("run-0", "a")
