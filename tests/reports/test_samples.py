"""Answers are shown side by side, some of each outcome, in file order."""

from __future__ import annotations

from dataclasses import replace

from support.made_up_runs import Make
from twofold.reports.run import read_run
from twofold.reports.samples import side_by_side


def test_some_of_each_outcome(make_run: Make) -> None:
    shown = side_by_side([read_run(make_run("pdpo", solved=(15, 30)))], ["pdpo"])
    assert shown is not None
    assert shown.columns == ("before", "after")
    assert [count for _, count in shown.counts] == [25, 10, 0, 5]
    assert [(s.name, s.outcome) for s in shown.sides] == [
        ("test.jsonl:16", "gained"), ("test.jsonl:17", "gained"), ("test.jsonl:18", "gained"),
        ("test.jsonl:19", "gained"), ("test.jsonl:1", "lost"), ("test.jsonl:2", "lost"), ("test.jsonl:3", "lost"),
        ("test.jsonl:4", "lost"), ("test.jsonl:11", "right"), ("test.jsonl:12", "right"),
    ]  # fmt: skip
    before, after = shown.sides[0].completions
    assert before is not None
    assert after is not None
    assert (before.completion, after.completion) == ("none", "#### 15")


def test_the_others_follow_and_differences_are_marked(make_run: Make) -> None:
    shown = side_by_side([read_run(make_run("pdpo", solved=(15, 30)))], ["pdpo"])
    assert shown is not None
    assert len(shown.sides) + len(shown.more) == 40
    assert not {s.name for s in shown.sides} & {s.name for s in shown.more}
    assert shown.sides[0].pieces == ([("none", True)], [("#### 15", True)])
    [same] = [s for s in shown.more if s.name == "test.jsonl:13"]
    assert same.pieces == ([("#### 12", False)], [("#### 12", False)])


def test_a_column_per_run(make_run: Make) -> None:
    runs = [read_run(make_run(name)) for name in ("dpo", "pdpo")]
    runs[0] = replace(runs[0], samples=tuple(s for s in runs[0].samples if s.name != "test.jsonl:11"))
    shown = side_by_side(runs, ["dpo", "pdpo"])
    assert shown is not None
    assert shown.columns == ("before", "dpo", "pdpo")
    assert len(shown.sides[0].completions) == 3


def test_nothing_to_show_without_two_steps(make_run: Make) -> None:
    run = read_run(make_run("pdpo"))
    assert side_by_side([replace(run, samples=())], ["pdpo"]) is None
    assert side_by_side([replace(run, samples=run.samples[:40])], ["pdpo"]) is None
