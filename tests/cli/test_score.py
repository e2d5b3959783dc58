"""`twofold score` on a tiny reward model: every shape of rows, whole files or none, and mistakes in few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy

Run = Callable[..., Any]


@pytest.fixture
def reward(model_folder: Path, tmp_path: Path) -> Path:
    held, loaded = load_reward_model(ModelSettings(path=str(model_folder), precision="float32"))
    save_policy(held, loaded.tokenizer, tmp_path / "rm")
    return tmp_path / "rm"


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_get_two_scores_and_an_accuracy(twofold: Run, reward: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"{i}?", "chosen": f"yes {i}", "rejected": "no", "mine": i} for i in range(5)]
    file, out = lines(tmp_path / "pairs.jsonl", *rows), tmp_path / "new" / "out.jsonl"
    answer = twofold("score", file, "--reward", reward, "--out", out, "--columns", "prompt=instruction")
    assert answer.code == 0, answer.err
    found = written(out)
    assert [{k: row[k] for k in rows[0]} for row in found] == rows
    right = sum(row["chosen_score"] > row["rejected_score"] for row in found)
    assert "10 scores of 5 rows" in answer.out
    assert f"{100 * right / 5:.1f}%" in answer.out
    assert list(out.parent.iterdir()) == [out]


def test_rankings_and_single_completions(twofold: Run, reward: Path, tmp_path: Path) -> None:
    ranking = {"prompt": "a?", "completions": ["x", "yy", "z"], "scores": [1, 0, 0]}
    file, out = lines(tmp_path / "rankings.jsonl", ranking), tmp_path / "out.jsonl"
    assert twofold("score", file, "--reward", reward, "--out", out).code == 0
    (row,) = written(out)
    assert row["scores"] == [1, 0, 0]
    assert len(row["reward_scores"]) == 3
    file = lines(tmp_path / "tasks.jsonl", {"question": "a?", "answer": "x"})
    assert twofold("score", file, "--reward", reward, "--out", out).code == 0
    assert written(out)[0]["score"] == pytest.approx(row["reward_scores"][0], abs=1e-5)


def test_mistakes_leave_no_file(twofold: Run, reward: Path, model_folder: Path, tmp_path: Path) -> None:
    file, out = lines(tmp_path / "a.jsonl", {"prompt": "a", "completion": "b" * 99}), tmp_path / "out.jsonl"
    for options, said in (
        (("--reward", model_folder, "--out", out), "no trained score head"),
        (("--reward", reward, "--out", file), "would overwrite"),
        (("--reward", reward, "--out", out, "--max-length", 20), "max_length is 20"),
        (("--reward", tmp_path / "nowhere", "--out", out), "no such folder"),
        (("--reward", reward, "--out", out, "--columns", "prompt"), "OURS=THEIRS"),
    ):
        answer = twofold("score", file, *options)
        assert answer.code == 2, answer.err
        assert said in answer.err
        assert not out.exists()
