"""Preference pairs and held-out pairs of GSM8K, as the benchmarks make them."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.gsm8k import files as gsm8k


def test_a_pair_is_the_better_answer_over_ones_own() -> None:
    better = [{"prompt": "a", "answer": "A"}, {"prompt": "b", "completion": "B"}, {"prompt": "c", "answer": "C"}]
    own = [{"prompt": "a", "completion": "x"}, {"prompt": "a", "completion": "y"}, {"prompt": "b", "completion": "B"}]
    assert gsm8k.pairs(better, own) == [{"prompt": "a", "chosen": "A", "rejected": "x"}]


def test_chat_prompts_match_as_well() -> None:
    chat = [{"role": "user", "content": "q"}]
    found = gsm8k.pairs([{"prompt": chat, "completion": "A"}], [{"prompt": chat, "completion": "b"}])
    assert found == [{"prompt": chat, "chosen": "A", "rejected": "b"}]


def test_held_out_pairs_put_the_truth_over_the_strongest_wrong_solution(tmp_path: Path) -> None:
    right, wrong = {"is_correct": True, "solution": "2+2=4\nA: 4"}, {"is_correct": False, "solution": "2+2=5\nA: 5"}
    rows = [
        {"question": "q", "ground_truth": "two and two\nA: 4", "175b_verification": right, "175b_finetuning": wrong,
         "6b_verification": {"is_correct": False, "solution": "A: 9"}, "6b_finetuning": right},
        {"question": "r", "ground_truth": "A: 1", **dict.fromkeys(gsm8k.SOLVERS, right)},
    ]  # fmt: skip
    path = tmp_path / "solutions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert gsm8k.heldout(path) == [
        {"prompt": "q\n", "chosen": "two and two\n#### 4", "rejected": "2+2=5\n#### 5"},
    ]


def test_the_real_solutions_give_1163_pairs(shared: Path) -> None:
    found = gsm8k.heldout(shared / "data" / "gsm8k" / "example_model_solutions.jsonl")
    assert len(found) == 1163
    assert all(row["chosen"].rpartition("\n")[2].startswith("#### ") for row in found)
