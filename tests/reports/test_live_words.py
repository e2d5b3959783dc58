"""What `watch` says of a run as it stands: at each limit, in these words."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from support.frozen import refuse_changes
from twofold.reports.live import Curve, Live, Recent, Snapshot, State, Tail, Texts, Watched, span, sparkline


def snapshot(state: State = "running", **changes: Any) -> Snapshot:
    plain: dict[str, Any] = {
        "path": Path("x/mine"), "step": 3, "steps": 10, "pace": 1.5, "seconds": 10.5, "quiet": 2.0, "curves": [],
        "warnings": [],
    }  # fmt: skip
    return Snapshot(state=state, **{**plain, **changes})


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (snapshot(), "running, step 3/10, 1.5 s a step, 10 s left"),
        (snapshot(steps=None, seconds=None), "running, step 3, 1.5 s a step"),
        (snapshot(pace=0.123456, seconds=600.0), "running, step 3/10, 0.12 s a step, 10 min left"),
        (snapshot(pace=None, seconds=None), "running, step 3/10"),
        (snapshot("finished"), "finished, step 3/10, 1.5 s a step"),
        (snapshot("silent", quiet=300.0), "silent for 5 min: it was stopped, or has died, step 3/10, 1.5 s a step"),
        (snapshot("waiting", step=0, pace=None, seconds=None), "no step yet, nothing written for 2 s"),
    ],
)  # fmt: skip
def test_words(seen: Snapshot, words: str) -> None:
    assert seen.words == words
    assert seen.name == "mine"
    refuse_changes(seen, Curve("a", [], []))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(119.4, "119 s"), (119.6, "2 min"), (120, "2 min"), (7169, "119 min"), (7170, "2 h 0 min"), (7200, "2 h 0 min"),
     (9000, "2 h 30 min"), (90, "90 s")],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_bars_are_means_of_their_stretches() -> None:
    assert sparkline([1, 3, 5, 7, 9], 2) == "▁█"  # 1, 3, 5 and 7, 9
    assert sparkline([0, 4, 7], 3) == "▁▅█"
    assert sparkline([1, 2], 0) == "▁"
    assert sparkline([2, 1], 2) == "█▁"
    assert sparkline([-1, 1], 5) == "▁█"


def test_the_first_metric_that_is_there_tells_a_curve() -> None:
    seen = Watched()
    for step in range(2):
        seen.add({"kind": "train", "step": step, "right": 0.5 + step, "kl": 2.0, "loss": 1.0, "odd": 3.0})
    seen.add(
        {"kind": "evaluation", "step": 9, "heldout/accuracy": 0.8, "heldout/reward": 1.0, "exact_match/strict": 0.1}
    )
    seen.add({"kind": "train", "loss": 5.0})
    seen.add({"kind": "train", "step": 4.5, "loss": 5.0})
    assert seen.curves() == [
        Curve("loss", [0, 1], [1.0, 1.0]), Curve("accuracy", [0, 1], [0.5, 1.5]), Curve("KL", [0, 1], [2.0, 2.0]),
        Curve("held-out accuracy", [9], [0.8]), Curve("held-out reward", [9], [1.0]),
        Curve("problems solved", [9], [0.1]),
    ]  # fmt: skip
    assert seen.steps == 2
    assert "odd" not in seen.columns._columns
    both = Watched()
    both.add({"kind": "train", "step": 0, "right": 0.5, "accuracy": 0.25, "draft_kl": 1.0, "kl": 2.0, "reward": 3.0})
    assert {c.name: list(c.values) for c in both.curves()} == {"accuracy": [0.25], "reward": [3.0], "KL": [1.0]}


def test_the_pace_is_of_the_last_fifty_steps() -> None:
    seen = Recent()
    for seconds in (100, "x", *([2] * 49), 4.0):
        seen.add({"seconds": seconds})
    seen.add({})
    assert list(seen.seconds) == [2.0] * 49 + [4.0]


def test_twenty_warnings_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    seen = Texts()
    for i in range(22):
        seen.add({"text": f"{i} " + "x" * 3000})
    seen.add({"other": 1})
    assert (seen.count, len(seen.texts), len(seen.texts[0]), seen.texts[19][:3]) == (22, 20, 2000, "19 ")
    warnings = "".join(json.dumps({"text": i}) + "\n" for i in range(20))
    (tmp_path / "warnings.jsonl").write_text(warnings)
    assert Live(tmp_path).look().warnings == [str(i) for i in range(20)]
    (tmp_path / "warnings.jsonl").write_text(warnings + '{"text": "y"}\n' * 3)
    assert Live(tmp_path).look().warnings[20:] == ["3 more in warnings.jsonl"]


@pytest.mark.parametrize("steps", ["{}", "[]", "{", '{"steps": 0}', '{"steps": -1}', '{"steps": "9"}', '{"steps": 4}'])
def test_how_many_steps_there_will_be(tmp_path: Path, steps: str) -> None:
    (tmp_path / "environment.json").write_text(steps)
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 0}\n')
    (tmp_path / "timings.jsonl").write_text('{"seconds": 2}\n')
    seen = Live(tmp_path).look()
    assert (seen.steps, seen.seconds) == ((4, 6.0) if "4" in steps else (None, None))


@pytest.mark.parametrize(
    ("age", "pace", "state"),
    [(55, 1.0, "running"), (65, 1.0, "silent"), (75, 4.0, "running"), (85, 4.0, "silent"), (65, None, "silent")],
)
def test_silence_is_a_minute_or_twenty_steps(tmp_path: Path, age: float, pace: float | None, state: State) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 0}\n')
    if pace is not None:
        (tmp_path / "timings.jsonl").write_text(json.dumps({"seconds": pace}) + "\n")
    for file in tmp_path.iterdir():
        os.utime(file, (time.time() - age,) * 2)
    seen = Live(tmp_path).look()
    assert seen.state == state
    assert seen.quiet == pytest.approx(age, abs=3)


@pytest.mark.parametrize(("before", "state"), [(0.5, "finished"), (0, "finished"), (5, "running")])
def test_results_end_a_run_unless_lines_came_after(tmp_path: Path, before: float, state: State) -> None:
    now = time.time() - 10
    for name, when in (("metrics.jsonl", now), ("timings.jsonl", now - 3), ("results.json", now - before)):
        (tmp_path / name).write_text('{"kind": "train", "step": 0}\n')
        os.utime(tmp_path / name, (when,) * 2)
    assert Live(tmp_path).look().state == state


class Listed(list[Any]):
    def add(self, line: Any) -> None:
        self.append(line)


def test_a_file_put_in_another_s_place_is_read_anew(tmp_path: Path) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    file.write_text('{"step": 0}\n')
    tail = Tail(file, Listed)
    assert (tail.read(), tail.rows) == (True, [{"step": 0}])
    other.write_text('{"step": 1}\n{"step": 2}\n')
    os.replace(other, file)
    assert (tail.read(), tail.rows) == (True, [{"step": 1}, {"step": 2}])
    file.unlink()
    assert (tail.read(), tail.rows) == (False, [{"step": 1}, {"step": 2}])
