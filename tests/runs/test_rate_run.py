"""A run with a win rate: its figures, its samples, its page, the best step, and changed prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import CheckpointError
from twofold.reports.html import render
from twofold.reports.run import read_run
from twofold.runs.train import train_recipe


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_win_rate_is_measured_at_every_evaluation(tmp_path: Path, base: Path) -> None:
    problems = [{"question": f"{n}+1=", "answer": f"#### {n + 1}"} for n in range(3)]
    pairs = [{"prompt": f"{n}+1", "chosen": f"{n + 1}", "rejected": f"{n}"} for n in range(4)]
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": write(tmp_path / "pairs.jsonl", pairs)},
        "evaluation": {
            "win_rate": {"prompts": write(tmp_path / "problems.jsonl", problems), "judge": "verifier", "limit": 2},
            "sampling": {"temperature": 0.0, "max_new_tokens": 4},
        },
        "training": {"steps": 2, "batch_size": 2, "evaluate_every": 1, "best_metric": "win_rate/rate"},
        "run": str(tmp_path / "run"),
    }
    recipe = validate(Recipe, Document("test", given, {}))
    train_recipe(recipe)
    run = tmp_path / "run"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if line["kind"] == "evaluation"]
    assert [(line["step"], line["win_rate/rate"], line["win_rate/n"]) for line in seen] == [
        (0, 0.5, 2.0), (1, 0.5, 2.0), (2, 0.5, 2.0),
    ]  # fmt: skip
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kind"], row["share"]) for row in samples] == [
        (s, "win_rate", 0.5) for s in (0, 0, 1, 1, 2, 2)
    ]
    assert {row["other"] for row in samples} == {row["completion"] for row in samples[:2]}
    page = render([read_run(run)], "title")
    assert "Share of prompts whose answer the judge prefers" in page
    write(tmp_path / "problems.jsonl", problems[::-1])
    with pytest.raises(CheckpointError, match="win rate"):
        train_recipe(recipe)
