"""A run that is watched, at the edges: long texts, clocks that disagree, files that come back, tags by the minute."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from twofold.reports import board, live
from twofold.reports.board import Board
from twofold.reports.live import BeforeAndNow, Live, Watched, sparkline

NOW = 1_000_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is."""
    now = [NOW]
    monkeypatch.setattr(live.time, "time", lambda: now[0])
    return now


def put(run: Path, name: str, age: float, text: str = '{"kind": "train", "step": 0}\n') -> None:
    (run / name).write_text(text)
    os.utime(run / name, (NOW - age, NOW - age))


def test_long_texts_are_cut_at_two_thousand_letters() -> None:
    samples = BeforeAndNow()
    first = {"kind": "win_rate", "name": "a", "prompt": "p" * 2001, "completion": "x" * 2001, "step": 0}
    samples.add({**first, "other": "o" * 2001, "share": 1})
    samples.add({**first, "completion": "y" * 2001, "step": 4, "other": "z" * 2000, "share": 0.5})
    shown = samples.beside()
    assert shown is not None
    assert (shown.prompt, shown.before, shown.now, shown.step) == ("p" * 2000, "x" * 2000, "y" * 2000, 4)
    match = samples.match()
    assert match is not None
    assert (match.prompt, match.own, match.other) == ("p" * 2000, "y" * 2000, "z" * 2000)
    assert (match.verdict, match.step) == ("tie", 4)


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(1, "won"), (1.0, "won"), (0.5, "tie"), (0, "lost"), (0.25, "no verdict"), (-1, "no verdict"), ("1", "no verdict"),
     (None, "no verdict"), ([1], "no verdict")],
)  # fmt: skip
def test_verdicts_of_a_match(share: Any, verdict: str) -> None:
    samples = BeforeAndNow()
    samples.add({"completion": "a", "other": "b", "share": share, "step": None})
    match = samples.match()
    assert match is not None
    assert (match.verdict, match.step, match.prompt) == (verdict, 0, "None")


def test_the_match_that_is_followed_is_the_first_ones() -> None:
    samples = BeforeAndNow()
    for name, step, other in (("a", 0, "o"), ("b", 0, "o"), ("a", 5, 7), ("a", 6, "o"), ("b", 7, "o")):
        samples.add({"name": name, "prompt": "p", "completion": f"{name}{step}", "other": other, "step": step})
    match = samples.match()
    assert match is not None
    assert (match.own, match.step) == ("a6", 6)
    assert BeforeAndNow().match() is None


def test_a_file_from_the_future_is_not_quiet(tmp_path: Path) -> None:
    put(tmp_path, "metrics.jsonl", -500)
    seen = Live(tmp_path).look()
    assert (seen.quiet, seen.state) == (0.0, "running")


@pytest.mark.parametrize(
    ("age", "pace", "state"),
    [(60.0, 0.0, "running"), (60.5, 0.0, "silent"), (60.0, None, "running"), (60.5, None, "silent"),
     (80.0, 4.0, "running"), (80.5, 4.0, "silent")],
)  # fmt: skip
def test_silence_begins_after_a_minute_or_twenty_steps(
    tmp_path: Path, age: float, pace: float | None, state: str
) -> None:
    put(tmp_path, "metrics.jsonl", age)
    if pace is not None:
        put(tmp_path, "timings.jsonl", age, json.dumps({"seconds": pace}) + "\n")
    seen = Live(tmp_path).look()
    assert (seen.state, seen.quiet) == (state, age)


@pytest.mark.parametrize(("older", "state"), [(1.0, "finished"), (1.25, "running"), (2.5, "running"), (-9, "finished")])
def test_results_may_be_a_second_older_than_the_last_line(tmp_path: Path, older: float, state: str) -> None:
    put(tmp_path, "metrics.jsonl", 10)
    put(tmp_path, "results.json", 10 + older, "{}")
    assert Live(tmp_path).look().state == state


def test_the_time_that_is_left_is_of_the_steps_that_are_left(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"kind": "train", "step": step}) + "\n" for step in range(3))
    put(tmp_path, "metrics.jsonl", 1, rows)
    put(tmp_path, "timings.jsonl", 1, '{"seconds": 2}\n{"seconds": 4}\n')
    (tmp_path / "environment.json").write_text('{"steps": 5}')
    seen = Live(tmp_path).look()
    assert (seen.step, seen.steps, seen.pace, seen.seconds) == (3, 5, 3.0, 6.0)
    assert seen.words == "running, step 3/5, 3 s a step, 6 s left"


def test_a_file_that_is_gone_for_a_while_is_taken_up(tmp_path: Path) -> None:
    seen = Live(tmp_path)
    put(tmp_path, "metrics.jsonl", 1)
    assert seen.look().step == 1
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").rename(tmp_path / "away")
    assert seen.look().step == 1
    (tmp_path / "away").rename(tmp_path / "metrics.jsonl")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(whole.replace("0", "6"))
    assert seen.look().step == 7


def test_an_evaluation_is_no_step() -> None:
    seen = Watched()
    seen.add({"kind": "evaluation", "step": 9, "heldout/accuracy": 0.5})
    assert seen.steps == 0
    seen.add({"kind": "train", "step": 3, "loss": 1.0})
    seen.add({"kind": "train", "step": 1, "loss": 1.0})
    assert seen.steps == 4
    assert seen.series("loss", "whatever") == ([1, 3], [1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "width", "bars"),
    [([0, 7, 3.4], 3, "▁█▄"), ([0, 7, 3.6], 3, "▁█▅"), ([0, 0, 7, 7, 7], 2, "▁█"), ([1, 2, 3], 1, "▁"),
     ([5.0] * 3, 3, "▁▁▁"), ([0, 1, 2, 3], 3, "▁█"), ([0, 1], -3, "▁")],
)  # fmt: skip
def test_bars_by_value(values: list[float], width: int, bars: str) -> None:
    assert sparkline(values, width) == bars


def test_a_tag_changes_by_the_minute_for_an_hour(tmp_path: Path, clock: list[float]) -> None:
    """So that a run that falls silent is drawn again; after an hour nothing more is to come."""
    (tmp_path / "a").mkdir()
    put(tmp_path / "a", "metrics.jsonl", 0)
    made, tags = Board(tmp_path), list[str]()
    for seconds in (0, 59, 60, 119, 59 * 60 + 59, 60 * 60, 61 * 60, 9e6):
        clock[0] = NOW + seconds
        tags.append(made._tag(["a"]))
    assert [tag == tags[0] for tag in tags] == [True, True, *[False] * 6]
    assert (tags[2] == tags[3], tags[3] == tags[4], tags[4] == tags[5]) == (True, False, False)
    assert tags[5] == tags[6] == tags[7]
    assert board._written(tmp_path / "a") == NOW
