"""A run of two steps is one of two steps, and one that has finished is not called unfinished."""

from __future__ import annotations

import json
from pathlib import Path

from twofold.reports.findings import worries
from twofold.reports.provenance import facts
from twofold.reports.run import read_run


def run_of(folder: Path, steps: int, *, finished: bool) -> Path:
    lines = [{"kind": "train", "step": step, "loss": 0.6} for step in range(steps)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "results.json").write_text(json.dumps({"name": "x", "step": steps, "models": [], "heldout": {}}))
    return folder


def test_lines_count_from_0(tmp_path: Path) -> None:
    assert "2 steps" in facts(read_run(run_of(tmp_path, 2, finished=True)))
    assert "1 step" in facts(read_run(run_of(tmp_path, 1, finished=True)))


def test_only_a_run_without_results_has_not_finished(tmp_path: Path) -> None:
    done = str(worries([read_run(run_of(tmp_path, 2, finished=True))], ["x"]))
    assert "has not finished" not in done
    (tmp_path / "results.json").unlink()
    assert "the run has not finished" in str(worries([read_run(tmp_path)], ["x"]))
