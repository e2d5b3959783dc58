"""Folds of the reward-model benchmark share no prompt, and rankings put correct above wrong."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from experiments.gsm8k import files as gsm8k
from experiments.reward_models.__main__ import FOLDS, bag_of_words, folds
from twofold.batch import Branch, Group, Role
from twofold.data.split import prompt_key
from twofold.records import Pair, Source


def test_every_prompt_is_held_out_once_and_on_one_side() -> None:
    rows = [Pair(f"prompt {i % 17}", "a", "b", Source("f", i)) for i in range(60)]
    found = folds(rows, 0)
    assert len(found) == FOLDS
    assert sorted(r.source.row for _, held in found for r in held) == list(range(60))
    for training, heldout in found:
        assert not {prompt_key(r.prompt) for r in training} & {prompt_key(r.prompt) for r in heldout}
        assert len(training) + len(heldout) == 60


def test_rankings_put_correct_above_wrong(tmp_path: Path) -> None:
    right, wrong = {"is_correct": True, "solution": "2+2=4\nA: 4"}, {"is_correct": False, "solution": "nine\nA: 9"}
    mixed = dict(zip(gsm8k.SOLVERS, (wrong, right, wrong, right), strict=True))
    rows = [{"question": "q", "ground_truth": "A: 4", **mixed}]
    rows += [{"question": "r", "ground_truth": "A: 4", **dict.fromkeys(gsm8k.SOLVERS, right)}]
    path = tmp_path / "solutions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = gsm8k.rankings(path)
    assert found["completions"] == ["2+2=4\n#### 4"] * 2 + ["nine\n#### 9"] * 2
    assert found["scores"] == [1, 1, 0, 0]


def test_a_bag_of_words_finds_the_word_that_tells() -> None:
    def group(i: int) -> Group:
        sides = ([3, 6 + i % 3], 0.0), ([6 + i % 3, 5], 1.0)
        branches = (Branch(torch.tensor(ids), Role.RANKED, columns={"level": level}) for ids, level in sides)
        return Group(f"{i}", torch.tensor([1]), tuple(branches))

    scores = bag_of_words([group(i) for i in range(12)], [group(i) for i in range(12, 15)])
    assert all(a > b + 1 for a, b in scores)
