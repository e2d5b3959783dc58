"""A run of before the names changed: it is not gone on with and not repeated, each in one clear message; the rest works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_run_begun_before_is_refused_and_still_read(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    rows = [{"prompt": f"{a}?", "chosen": f"#### {a}", "rejected": "no"} for a in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, run = tmp_path / "r.yaml", tmp_path / "run"
    recipe.write_text(f"model: {{path: {model_folder}}}\ndata: {{train: {tmp_path}/pairs.jsonl}}\nrun: {run}\n")
    assert twofold("train", recipe, "training.steps=1").code == 0
    resolved = (run / "resolved.yaml").read_text()
    (run / "resolved.yaml").write_text(resolved.replace("keep_checkpoints:", "keep:").replace("loss_on:", "supervise:"))
    manifest = run / "checkpoints" / "step-1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))

    repeated = twofold("train", run / "resolved.yaml")
    assert repeated.code == 2
    assert [line.partition(": ")[2] for line in repeated.err.removeprefix("error: ").splitlines()] == [
        "data.tokenize.supervise: renamed to data.tokenize.loss_on",
        "training.keep: renamed to training.keep_checkpoints",
    ]
    leak = tmp_path / "leak.jsonl"
    leak.write_text('{"prompt": "3?", "answer": "#### 3"}\n')
    measured = twofold("evaluate", run, "--tasks", leak, "--max-new-tokens", "4")
    assert (measured.code, "leak.jsonl:1" in measured.err) == (2, True)
    assert twofold("report", run).code == twofold("compare", run, "--out", tmp_path / "c.html").code == 0
    resumed = twofold("train", recipe, "training.steps=2")
    assert resumed.code == 2
    assert resumed.err.replace("\n", " ").endswith(
        f"error: {run}/checkpoints: no checkpoint can be resumed (step-1: format 1; this version reads format 2)"
        "   → remove the folder to start again from step 0 "
    )
