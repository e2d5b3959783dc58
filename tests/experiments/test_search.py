"""Searches guided by rewards: the labels of steps, the recipes, and who plays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.harness.instructions import base_of, options_of
from experiments.harness.recipes import recipe_of
from experiments.search import real
from experiments.search.__main__ import BASE, players, ppo_sections, rated_steps
from experiments.search.real import rated_rows, rated_words
from twofold.records import Source, Task


def test_lines_are_right_where_the_true_calculation_has_them() -> None:
    task = Task("2 + 3 + 1?", "2 + 3 = 5\n5 + 1 = 6\n#### 6", Source("made", 1))
    assert rated_steps(task, "2 + 3 = 5\n5 + 1 = 7\n#### 7")["labels"] == [True, False, False]
    assert rated_steps(task, "5 + 1 = 6\n\n#### 6") == {
        "prompt": "2 + 3 + 1?", "completions": ["5 + 1 = 6", "#### 6"], "labels": [False, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "answer", "labels"),
    [
        ("at most 3 words", "a b c d e", [True, True, True, False, False]),
        ('without "the"', "See the sea", [True, False, False]),
        ("lowercase", "a b C d", [True, True, False, False]),
        ('ends with "?"', "See the sea", [True, True, False]),
        ('ends with "?"', "See it?", [True, True]),
        ('starts with "In"', "No one", [True, False]),
        ("at most 2 words", "a  b   c", [True, True, False]),
    ],
)
def test_words_are_right_until_the_rule_is_broken(rule: str, answer: str, labels: list[bool]) -> None:
    row = rated_words("Why?", rule, answer)
    assert row == {"prompt": "Why?", "completions": answer.split(), "labels": labels}


def test_both_answers_of_every_pair_are_rated_once(tmp_path: Path) -> None:
    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    write("problems.jsonl", [{"prompt": "Why?", "answer": "at most 1 words"}])
    write("pairs.jsonl", [{"prompt": "Why?", "chosen": "So", "rejected": no} for no in ("So it is", "Not so")])
    rows = [*rated_rows(tmp_path)]
    assert [row["completions"] for row in rows] == [["So"], ["So", "it", "is"], ["Not", "so"]]
    assert [row["labels"] for row in rows] == [[True], [True, False, False], [True, False]]


def test_every_guide_and_every_reward_plays() -> None:
    made = {name: Path("runs") / name for name in ("dpo", "reward", "process", "ppo")}
    demo, pretrained = [*players(made)], real.players("base", made)
    guides = ["reward:runs/reward", "process:runs/process", "reward:runs/ppo"]
    assert [name for name in demo if "guide" in name] == [f"{BASE}@beam:5?guide={guide}" for guide in guides]
    assert [name for name in pretrained if "guide" in name] == [f"base@beam:3?guide={guide}" for guide in guides]
    assert pretrained[:4] == ["runs/dpo", "runs/dpo@beam:3", "base", "base@beam:3"]
    assert pretrained[-2:] == [f"base@best-of:9?reward={reward}" for reward in guides[:2]]
    assert players(made)[f"{BASE}@beam:5?guide=reward:runs/ppo"] == 5 + 5 * 6


def test_ppo_trains_a_value_model_on_the_reward(tmp_path: Path) -> None:
    sections = ppo_sections("m", tmp_path / "problems.jsonl", "verifier", steps=7, run=str(tmp_path))
    recipe: Any = recipe_of(sections, "test")
    assert recipe.algorithm.value is not None
    assert (recipe.algorithm.reward, recipe.training.steps, recipe.model.path) == ("verifier", 7, "m")


@pytest.mark.parametrize("option", ["--model", "--data"])
def test_a_folder_that_is_not_there_is_one_message(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = options_of("experiments.made", None, tmp_path)
    with pytest.raises(SystemExit, match="2"):
        base_of(parser, parser.parse_args([option, str(tmp_path / "nothing")]))
    assert str(tmp_path / "nothing") in capsys.readouterr().err
