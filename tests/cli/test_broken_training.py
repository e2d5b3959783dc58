"""No broken file is trained on: `twofold train` ends with one message, exit code 2 and no run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.broken_files import BROKEN, FATAL

Run = Callable[..., Any]


@pytest.mark.parametrize("name", FATAL)
def test_a_broken_file_trains_nothing(twofold: Run, model_folder: Path, tmp_path: Path, name: str) -> None:
    case, other = FATAL[name], tmp_path / "other.jsonl"
    path = tmp_path / case.name
    path.write_bytes(case.data)
    other.write_bytes(case.against)
    objective = "plackett_luce" if b"completions" in case.data else "kto" if b"label" in case.data else "dpo"
    settings = {
        "model.path": str(model_folder),
        "data.train": str(path),
        "data.columns": case.columns,
        "objective.kind": objective,
        "training.steps": 1,
        "run": str(tmp_path / "run"),
        **({"data.heldout.file": str(other)} if case.against else {}),
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{}\n", encoding="utf-8")
    answer = twofold("train", recipe, *(f"{key}={json.dumps(value)}" for key, value in settings.items()))
    assert answer.code == 2
    assert "Traceback" not in answer.err + answer.out
    told = " ".join(answer.err.split())
    assert case.name in told
    assert ("remove these rows" if case.against else case.remedy) in told
    assert len(answer.err.splitlines()) <= 10
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_accepted_contradictions_train_and_are_told(twofold: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(BROKEN["a pair is there both ways"].data)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{path: {model_folder}}}\ndata: {{train: {path}, accept: [contradiction]}}\nrun: {tmp_path}/run\n"
        "training: {steps: 1, batch_size: 3}\n",
        encoding="utf-8",
    )
    answer = twofold("train", recipe)
    assert answer.code == 0, answer.err
    assert "2 × contradiction (rows 1, 3)" in " ".join((answer.out + answer.err).split())
    refused = twofold("train", recipe, "data.accept=[duplicate]", f"run={tmp_path}/other")
    assert refused.code == 2
    assert "accept" in refused.err
