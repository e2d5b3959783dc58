from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from twofold.demo.task import Split, demonstrations, pairs, problems, split_of, tasks, write_files
from twofold.records import Pair, Source

SPLITS = get_args(Split)


def compute(step: str) -> bool:
    left, right = step.split("=")
    operator = next(symbol for symbol in "+-*" if symbol in left)
    a, b = map(int, left.split(operator))
    return {"+": a + b, "-": a - b, "*": a * b}[operator] == int(right)


@pytest.mark.parametrize("split", SPLITS)
def test_worked_answers_are_right_and_end_in_the_number(split: Split) -> None:
    for problem in problems(split, 1000):
        first, second, last = problem.worked.split("\n")
        assert compute(first)
        assert compute(second)
        assert first.split("=")[1] == second.split("+")[0].split("-")[0].split("*")[0]
        assert last == problem.terse == f"#### {problem.number}"
        assert second.endswith(f"={problem.number}")
        assert problem.number > 0


def test_a_worked_answer_uses_exactly_the_numbers_of_its_story() -> None:
    for problem in problems("test", 500):
        told = sorted(map(int, re.findall(r"\d+", problem.prompt)))
        first, second = (re.findall(r"\d+", step) for step in problem.steps)
        used = sorted(map(int, [*first[:2], second[1]]))
        assert told == used


def test_a_known_problem() -> None:
    problem = problems("test", 1, seed=0)[0]
    assert (problem.prompt, problem.worked) == (
        "Dan had 24 nuts, gave away 9 and got 11. How many now?",
        "24-9=15\n15+11=26\n#### 26",
    )


def test_lengths_stay_short() -> None:
    rows = [problem for split in SPLITS for problem in problems(split, 2000)]
    assert max(len(row.prompt) for row in rows) <= 70
    assert max(len(row.worked) for row in rows) <= 30


def test_splits_share_no_prompt_and_no_calculation() -> None:
    prompts = {split: {row.prompt for row in problems(split, 3000)} for split in SPLITS}
    steps = {split: {row.steps for row in problems(split, 3000, seed=1)} for split in SPLITS}
    for split in SPLITS:
        for other in SPLITS:
            if other != split:
                assert not prompts[split] & prompts[other]
                assert not steps[split] & steps[other]


def test_every_calculation_belongs_to_one_split_in_the_set_shares() -> None:
    owners = [split_of("+*", (a, b, c)) for a in range(40) for b in range(20) for c in range(20)]
    shares = {split: owners.count(split) / len(owners) for split in SPLITS}
    assert shares == pytest.approx({"base": 0.6, "train": 0.15, "generator": 0.1, "test": 0.15}, abs=0.01)


def test_problems_repeat_and_a_longer_list_continues_a_shorter() -> None:
    assert problems("train", 200) == problems("train", 200)
    assert problems("train", 200)[:50] == problems("train", 50)
    assert problems("train", 50, seed=1) != problems("train", 50)
    assert len({row.prompt for row in problems("train", 200)}) == 200


def test_demonstrations_mix_the_styles_as_each_story_has_them() -> None:
    rows = demonstrations("train", 4000)
    worked = sum("=" in row.completion for row in rows) / len(rows)
    expected = sum(problem.worked_share for problem in problems("train", 4000)) / 4000
    assert worked == pytest.approx(expected, abs=0.03)
    assert 0.4 < expected < 0.5
    assert rows[6].source == Source("demo/train", 7)


def test_pairs_prefer_the_ground_truth_and_skip_what_equals_it() -> None:
    known = tasks("train", 2)
    assert pairs(known, ["#### 1", known[1].answer]) == [
        Pair(known[0].prompt, known[0].answer, "#### 1", Source("demo/train", 1))
    ]


def test_files_hold_the_tasks(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "data", {"train": 20, "generator": 10, "test": 5})
    assert {split: path.name for split, path in paths.items()} == {
        "train": "train.jsonl",
        "generator": "generator.jsonl",
        "test": "test.jsonl",
    }
    rows = [json.loads(line) for line in paths["test"].read_text(encoding="utf-8").splitlines()]
    assert rows == [{"prompt": row.prompt, "answer": row.answer} for row in tasks("test", 5)]
