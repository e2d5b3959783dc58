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
    for text in (
        "runs/a@beam:5",
        "&lt;b&gt;",
        "+0.51",
        "−0.51",
        "+0.20 … +0.90",
        "62.5%",
        "−25.0",
        "0.040",
        ROW["command"],
    ):
        assert text in page, text
    assert "<td><b>" not in page
    (runs[0] / "contests.json").write_text(json.dumps([{**ROW, "judge_accuracy": RATE}]))
    assert "The judge is right on 62.5% (40.0 – 80.0%) of 40 labeled pairs." in render([read_run(runs[0])], "one")
    part = {
        **ROW,
        "matches": [{"a": "runs/a@beam:5", "b": "<b>", "n": 40, "missing": 3}],
        "judge_accuracy": "not measured",
    }
    (runs[0] / "contests.json").write_text(json.dumps([part]))
    told = render([read_run(runs[0])], "one")
    assert "40 of 43" in told
    assert "The judge&#39;s own accuracy is not measured." in told
    assert '<section id="contests">' not in render([read_run(make_run("c"))], "one")


def test_answers_of_the_last_win_rate_are_beside_their_opponents(make_run: Make) -> None:
    run = make_run("a")
    rows = [
        {"kind": "win_rate", "step": step, "name": f"p:{i}", "prompt": f"prompt {i}", "completion": f"<i>{step}-{i}",
         "other": f"other {i}", "share": share, "truncated": False}
        for step in (0, 40) for i, share in enumerate([1.0, 0.5, 0.0, None, *[1.0] * 6])
    ]  # fmt: skip
    with (run / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    read = read_run(run)
    assert [(m.step, m.completion, m.share) for m in read.matches[:4]] == [
        (40, "<i>40-0", 1.0), (40, "<i>40-1", 0.5), (40, "<i>40-2", 0.0), (40, "<i>40-3", -1.0)
    ]  # fmt: skip
    assert len(read.matches) == 10
    page = render([read], "one")
    section = page.split('<section id="matches">')[1].split("</section>")[0]
    for text in (
        ">8 of 10<",
        ">matches<",
        " 40</p>",
        "&lt;i&gt;40-0",
        "other 2",
        "✓ won",
        "= tie",
        "✗ lost",
        "no verdict",
    ):
        assert text in section, text
    assert ("40-8" in section, ">0-0" in section) == (False, False)
    assert '<section id="matches">' not in render([read_run(make_run("c"))], "one")
