"""Contests on a report's page: each once, names escaped, whatever a file holds."""

from __future__ import annotations

import json

from support.made_up_runs import Make
from twofold.reports.contests import contests
from twofold.reports.html import render
from twofold.reports.run import read_run

SCORE = {"value": 0.51, "low": 0.2, "high": 0.9, "n": 40}
RATE = {"value": 0.625, "low": 0.4, "high": 0.8, "n": 40}
TEST = {"difference": {"value": -0.25, "low": -0.5, "high": 0.0, "n": 40}, "p_value": 0.04, "p_holm": 0.12}
ROW = {
    "of": "2 players, judged by verifier", "command": "twofold evaluate a b --task contest",
    "players": [{"name": "runs/a@beam:5", "score": SCORE, "rate": RATE},
                {"name": "<b>", "score": {**SCORE, "value": -0.51}, "rate": RATE}, {"name": "none", "score": 3}],
    "comparisons": [{"a": "runs/a@beam:5", "b": "<b>", **TEST}, {"a": "x", "b": "y", "p_value": "?"}, 7],
}  # fmt: skip


def test_a_contest_of_two_runs_is_on_their_page_once(make_run: Make) -> None:
    runs = [make_run(name) for name in ("a", "b")]
    for run in runs:
        (run / "contests.json").write_text(json.dumps([ROW, {"of": "nothing"}, 5]))
    read = [read_run(run) for run in runs]
    (table,) = contests(read)
    assert [(p.name, p.score.value, p.rate.value) for p in table.players] == [
        ("runs/a@beam:5", 0.51, 0.625), ("<b>", -0.51, 0.625),
    ]  # fmt: skip
    assert [(p.a, p.b, p.difference.value, p.p_value, p.p_holm) for p in table.pairs] == [
        ("runs/a@beam:5", "<b>", -0.25, 0.04, 0.12)
    ]
    page = render(read, "two")
    assert page.count('<section id="contests">') == 1
    for text in ("runs/a@beam:5", "&lt;b&gt;", "+0.51", "+0.20 … +0.90", "62.5%", "-25.0%", "0.040", ROW["command"]):
        assert text in page, text
    assert "<td><b>" not in page
    (runs[0] / "contests.json").write_text(json.dumps([{**ROW, "judge_accuracy": RATE}]))
    assert "The judge is right on 62.5% (40.0 – 80.0%) of 40 labeled pairs." in render([read_run(runs[0])], "one")
    assert '<section id="contests">' not in render([read_run(make_run("c"))], "one")
