"""A run is read while it is written: half lines wait, a file cut back is read anew, silence is told from the end."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from twofold import manifest
from twofold.cli.watch import picture
from twofold.reports.live import Beside, Contested, Live, Tail, span, sparkline


def write(path: Path, *rows: dict[str, object]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def train(step: int, **figures: float) -> dict[str, object]:
    return {"kind": "train", "step": step, "loss": 1.0 - step / 10, **figures}


def age(run: Path, seconds: float) -> None:
    for file in run.iterdir():
        os.utime(file, (time.time() - seconds,) * 2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "environment.json").write_text(json.dumps({"steps": 10}))
    return folder


class Listed(list[Any]):
    """Rows as a list."""

    def add(self, line: Any) -> None:
        self.append(line)


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    tail = Tail(file, Listed)
    assert (tail.read(), tail.rows) == (False, [])
    file.write_text('{"step": 0}\n{"st')
    assert (tail.read(), tail.rows) == (True, [{"step": 0}])
    with file.open("a") as more:
        more.write('ep": 1}\nnonsense\n')
    assert (tail.read(), tail.rows) == (True, [{"step": 0}, {"step": 1}])
    assert tail.read() is False


def test_a_file_cut_back_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    write(file, train(0), train(1), train(2))
    tail = Tail(file, Listed)
    tail.read()
    os.truncate(file, 0)
    write(file, train(0))
    tail.read()
    assert [row["step"] for row in tail.rows] == [0]


def test_a_run_from_its_first_step_to_its_last(run: Path) -> None:
    live = Live(run)
    assert (live.look().state, live.look().words) == ("waiting", "no step yet, nothing written for 0 s")
    os.utime(run, (time.time() - 300,) * 2)
    assert live.look().state == "waiting"  # a model may take long to load
    write(run / "metrics.jsonl", train(0, margin=0.0), train(1, margin=0.5))
    write(run / "timings.jsonl", {"step": 0, "seconds": 2.0}, {"step": 1, "seconds": 4.0})
    seen = live.look()
    assert (seen.state, seen.step, seen.steps, seen.pace, seen.seconds) == ("running", 2, 10, 3.0, 24.0)
    assert seen.words == "running, step 2/10, 3 s a step, 24 s left"
    assert {c.name: list(c.values) for c in seen.curves} == {"loss": [1.0, 0.9], "margin": [0.0, 0.5]}
    write(run / "metrics.jsonl", *(train(s) for s in range(2, 10)))
    (run / "results.json").write_text("{}")
    assert live.look().words.startswith("finished, step 10/10")


def test_the_first_prompt_is_shown_before_and_now(run: Path) -> None:
    live = Live(run)
    first = {"name": "a", "prompt": "p", "completion": "old"}
    write(run / "samples.jsonl", {"step": 0, **first}, {"step": 0, "name": "b", "prompt": "q", "completion": "x"})
    assert live.look().beside is None
    write(run / "samples.jsonl", {"step": 5, **first, "completion": "new"}, {"step": 5, "name": "b", "completion": "y"})
    assert live.look().beside == Beside("p", "old", "new", 5)
    screen = io.StringIO()
    console = Console(width=80, file=screen)
    console.print(picture(live.look(), console))
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert all(line in lines for line in (["prompt", "p"], ["before", "old"], ["step", "5", "new"]))


def texts_of(live: Live) -> list[list[str]]:
    screen = io.StringIO()
    console = Console(width=80, file=screen)
    console.print(picture(live.look(), console))
    return [line.split() for line in screen.getvalue().splitlines()]


def test_a_match_of_the_win_rate_has_its_opponent_and_its_verdict(run: Path) -> None:
    write(run / "metrics.jsonl", train(0))
    live = Live(run)
    first = {"kind": "win_rate", "name": "a", "prompt": "p"}
    second = {"kind": "win_rate", "step": 0, "name": "b", "prompt": "q", "completion": "x", "other": "y", "share": 0.0}
    write(run / "samples.jsonl", {"step": 0, **first, "completion": "old", "other": "o", "share": 0.5}, second)
    assert live.look().match == Contested("p", "old", "o", "tie", 0)
    assert texts_of(live)[-4:] == [["win", "rate", "on", "p"], ["step", "0", "old"], ["opponent", "o"],
                                   ["verdict", "tie"]]  # fmt: skip
    write(run / "samples.jsonl", {"step": 5, **first, "completion": "new", "other": "o", "share": 1.0})
    assert live.look().match == Contested("p", "new", "o", "won", 5)
    assert texts_of(live)[-5:] == [["prompt", "p"], ["before", "old"], ["step", "5", "new"], ["opponent", "o"],
                                   ["verdict", "won"]]  # fmt: skip
    for share, verdict in ((0.0, "lost"), (None, "no verdict")):
        write(run / "samples.jsonl", {"step": 6, **first, "completion": "new", "other": "o", "share": share})
        assert getattr(live.look().match, "verdict", "") == verdict


def test_a_match_is_shown_next_to_another_sample(run: Path) -> None:
    write(run / "metrics.jsonl", train(0))
    live = Live(run)
    problem = {"kind": "exact_match", "name": "a", "prompt": "p"}
    match = {"kind": "win_rate", "name": "a", "prompt": "q", "completion": "mine", "other": "theirs", "share": 0}
    write(run / "samples.jsonl", {"step": 0, **problem, "completion": "old"}, {"step": 0, **match},
          {"step": 5, **problem, "completion": "new"}, {"step": 5, **match, "share": 1})  # fmt: skip
    assert texts_of(live)[-7:] == [["prompt", "p"], ["before", "old"], ["step", "5", "new"],
                                   ["win", "rate", "on", "q"], ["step", "5", "mine"], ["opponent", "theirs"],
                                   ["verdict", "won"]]  # fmt: skip


def test_a_run_that_died_is_silent_and_one_that_goes_on_is_not(run: Path) -> None:
    write(run / "metrics.jsonl", train(0))
    write(run / "timings.jsonl", {"step": 0, "seconds": 10.0})
    live = Live(run)
    age(run, 150)
    assert live.look().state == "running"  # steps take 10 s: 20 of them may pass in silence
    age(run, 250)
    assert live.look().words == "silent for 4 min: it was stopped, or has died, step 1/10, 10 s a step"
    write(run / "metrics.jsonl", train(1))
    assert live.look().state == "running"


def test_results_of_before_do_not_end_a_run_begun_again(run: Path) -> None:
    (run / "results.json").write_text("{}")
    age(run, 30)
    write(run / "metrics.jsonl", train(0))
    assert Live(run).look().state == "running"


def test_a_step_written_twice_counts_once(run: Path) -> None:
    write(run / "metrics.jsonl", train(0), train(1), train(1, margin=3.0))
    seen = Live(run).look()
    assert (seen.step, list(seen.curves[0].steps)) == (2, [0, 1])


def test_sparklines_and_spans() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 2, 6, 8], 2) == "▁█"
    assert sparkline([3, 3], 8) == "▁▁"
    assert sparkline([], 8) == ""
    assert [span(s) for s in (0.4, 119, 150, 7300)] == ["0 s", "119 s", "2 min", "2 h 2 min"]


def test_a_finished_run_that_was_changed_says_so(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"kind": "train", "step": 0, "loss": 0.5}\n')
    (run / "timings.jsonl").write_text("")
    manifest.write(run, ["metrics.jsonl", "timings.jsonl"])
    assert Live(run).look().warnings == []
    (run / "metrics.jsonl").write_text('{"kind": "train", "step": 0, "loss": 0.4}\n')
    assert Live(run).look().warnings == ["metrics.jsonl does not match its sha256 since the run wrote it"]
