"""A run of 200,000 steps is reported and watched in little memory, and its figures are those of every step."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.made_up_runs import Make, evaluations, lines
from twofold.reports.columns import MOST_LINES, Columns
from twofold.reports.run import read_run

STEPS = 200_000
MOST_MIB = 300
FIGURES = [
    "loss", "loss/dpo", "loss/pdpo", "accuracy", "margin", "chosen_logp", "chosen_logratio", "chosen_k2",
    "chosen_reward", "chosen_length", "rejected_logp", "rejected_logratio", "rejected_k2", "rejected_reward",
    "rejected_length", "gap", "active", "draft_kl", "draft_length", "draft_logp", "draft_reward", "truth_reward",
    "truncated", "right", "drafts", "drafts_kept", "grad_norm", "gradient_weight", "gradient_weight_std", "tokens",
    "learning_rate",
]  # fmt: skip
"""What a step of PDPO tells."""


def write(folder: Path, steps: int) -> None:
    """Logs of `steps` steps; each figure of a step has its full length in digits."""
    with (folder / "metrics.jsonl").open("w") as metrics, (folder / "timings.jsonl").open("w") as timings:
        for step in range(steps):
            value = math.sin(step)
            row = {"kind": "train", "step": step, **{name: value + i for i, name in enumerate(FIGURES)}}
            metrics.write(json.dumps(row) + "\n")
            if step % 1000 == 0:
                metrics.write(json.dumps({"kind": "evaluation", "step": step, "heldout/accuracy": 0.8}) + "\n")
            timings.write(json.dumps({"step": step, "seconds": 0.5}) + "\n")


def peak(*arguments: object) -> tuple[float, float, str]:
    """The most memory (MiB) and the processor seconds of a command, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-m", "twofold", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, said
    scale = 1 if sys.platform == "darwin" else 1024
    return used.ru_maxrss * scale / 2**20, used.ru_utime + used.ru_stime, said


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    write(folder, STEPS)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("verb", [["report"], ["watch", "--once"]])
def test_a_long_run_takes_little_memory(long_run: Path, tmp_path: Path, verb: list[str]) -> None:
    out = ["--out", tmp_path / "page.html"] if verb[0] != "watch" else []
    mib, seconds, said = peak(verb[0], long_run, *verb[1:], *out)
    assert mib <= MOST_MIB, f"{mib:.0f} MiB, {seconds:.0f} s"
    assert ("step 200000" if verb[0] == "watch" else "page.html") in said


def test_columns_are_every_step_and_their_last_word() -> None:
    columns = Columns()
    for step in (0, 1, 3, 2, 3):
        columns.add({"step": step, "loss": 10.0 * step + len(columns), **({"rare": 1.0} if step == 2 else {})})
    columns.add({"step": 4, "loss": math.nan})
    columns.add({"loss": 5.0})
    assert columns.series("loss") == ([0, 1, 2, 3], [0, 11, 23, 34])
    assert columns.series("rare") == ([2], [1.0])
    assert columns.series("no such") == ([], [])
    assert (len(columns), columns.last_step) == (7, 4)


def test_beyond_so_many_lines_every_second_stands_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_LINES > STEPS
    monkeypatch.setattr("twofold.reports.columns.MOST_LINES", 8)
    columns = Columns()
    for step in range(100):
        columns.add({"step": step, "loss": step / 2, **({"odd": 1.0} if step % 2 else {})})
    assert columns.series("loss") == ([0, 16, 32, 48, 64, 80, 96], [0, 8, 16, 24, 32, 40, 48])
    assert columns.series("odd") == ([], [])
    assert (len(columns), columns.last_step) == (100, 99)


def test_of_many_evaluations_the_first_the_last_and_the_final_ones_are_read(make_run: Make) -> None:
    folder = make_run("pdpo")
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "step": 20}))
    lines(folder / "samples.jsonl", [{"step": s, "name": str(i)} for s in range(0, 50, 10) for i in range(3)])
    run = read_run(folder)
    assert [(s.step, s.name) for s in run.samples] == [(s, str(i)) for s in (0, 20, 40) for i in range(3)]
    assert {s.step for s in run.final_samples.values()} == {20}
    lines(folder / "metrics.jsonl", evaluations(40, (1, 2)))
    assert read_run(folder).steps == 40


def test_a_line_without_end_is_left_out(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.reports.columns.MOST_BYTES", 1000)
    monkeypatch.setattr("twofold.reports.columns.CHUNK", 100)
    folder = make_run("pdpo", steps=2)
    with (folder / "timings.jsonl").open("a") as file:
        file.write(
            '{"step": 9, "seconds": 1, "x": "'
            + "y" * 5000
            + '"}\n{"step": 3, "seconds": 4.0}\n{"step": 4, "seconds": 8}'
        )
    run = read_run(folder)
    assert run.series("seconds", "timing") == ([0, 1, 3, 4], [0.5, 0.5, 4.0, 8.0])
    assert run.faults == ("timings.jsonl: 1 unreadable line left out (line 3)",)
