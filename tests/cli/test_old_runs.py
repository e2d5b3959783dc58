"""A run of before the names changed: it cannot be repeated, which one message says; it can be measured and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_run_of_before_is_not_repeated_but_still_read(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    rows = [{"prompt": f"{a}?", "chosen": f"#### {a}", "rejected": "no"} for a in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, run = tmp_path / "r.yaml", tmp_path / "run"
    recipe.write_text(f"model: {{path: {model_folder}}}\ndata: {{train: {tmp_path}/pairs.jsonl}}\nrun: {run}\n")
    assert twofold("train", recipe, "training.steps=1").code == 0
    (run / "twofold-manifest.json").unlink()  # runs of before have none
    resolved = (run / "resolved.yaml").read_text()
    (run / "resolved.yaml").write_text(resolved.replace("keep_checkpoints:", "keep:").replace("loss_on:", "supervise:"))
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
