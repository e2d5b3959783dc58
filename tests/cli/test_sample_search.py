"""`twofold sample` beyond drawing: the best of many by a reward model, and beams."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy

Run = Callable[..., Any]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_best_of_five_is_one_of_the_five(twofold: Run, model_folder: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(f'{{"question": "{n} + 1 = ", "answer": "#### 9"}}\n' for n in range(4)), encoding="utf-8")
    held, loaded = load_reward_model(ModelSettings(path=str(model_folder), precision="float32"))
    save_policy(held, loaded.tokenizer, tmp_path / "rm")
    common = ("sample", model_folder, "--file", tasks, "max_new_tokens=5", "seed=3")
    best, all_ = tmp_path / "best.jsonl", tmp_path / "all.jsonl"
    answer = twofold(*common, "--best-of", 5, "--reward", tmp_path / "rm", "--out", best)
    assert answer.code == 0, answer.err
    assert "best of 5: at most 0.81 nats from the model" in answer.err
    assert twofold(*common, "-n", 5, "--out", all_).code == 0
    drafts = rows(all_)
    for n, row in enumerate(rows(best)):
        own = drafts[5 * n : 5 * n + 5]
        assert row["score"] == max(row["scores"]) == row["scores"][row["sample"]]
        assert row["completion"] == own[row["sample"]]["completion"]
        assert len({s for s, d in zip(row["scores"], own, strict=True) if d["completion"] == row["completion"]}) == 1
    shown = twofold(*common[:2], "--prompt", "x", "--best-of", 1, "--reward", tmp_path / "rm", "max_new_tokens=3")
    assert shown.out.startswith("x\n[")
    assert ", score " in shown.out


def test_beams_are_told_best_first_and_a_reference_changes_what_counts(
    twofold: Run, model_folder: Path, tmp_path: Path
) -> None:
    common = ("sample", model_folder, "--prompt", "0 + 1 = ", "max_new_tokens=4", "--beam", 3)
    answer = twofold(*common, "--out", tmp_path / "own.jsonl")
    assert answer.code == 0, answer.err
    assert "3 beams by log-probability" in answer.err
    found = rows(tmp_path / "own.jsonl")
    assert [row["score"] for row in found] == sorted((row["logp"] for row in found), reverse=True)
    assert twofold(*common, "--reference", model_folder, "--out", tmp_path / "ratio.jsonl").code == 0
    assert [row["score"] for row in rows(tmp_path / "ratio.jsonl")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--best-of", "2"], "--best-of and --reward need each other"),
        (["--beam", "2", "-n", "3"], "--beam searches"),
        (["--reference", "x"], "--reference goes with --beam"),
    ],
)
def test_contradictions_are_refused(twofold: Run, model_folder: Path, arguments: list[str], said: str) -> None:
    answer = twofold("sample", model_folder, "--prompt", "x", *arguments)
    assert answer.code == 2
    assert said in answer.err
