"""A row whose keys are those of its file and whose values are not: it is refused by name, and never read as less."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import scan

STEP = {"completions": [{"text": "3", "rating": -1}], "chosen_completion": None}
FIRST: dict[str, dict[str, Any]] = {
    "prompt + lists of chosen and rejected (RewardBench 2)": {"prompt": "q", "chosen": ["2"], "rejected": ["3", "4"]},
    "question + label of steps (PRM800K)": {"question": {"problem": "q"}, "label": {"steps": [STEP]}},
    "input + label with marks (Math-Shepherd)": {"input": "q Step 1: 2 ки", "label": "q Step 1: 2 +"},
    "conversation of input + output (Capybara)": {"conversation": [{"input": "q", "output": "2"}]},
    "prompt + answers (ranked)": {"prompt": "q", "answers": [{"answer": t, "rank": int(t)} for t in "23"]},
    "prompt + completions (scored)": {"prompt": "q", "completions": [{"text": t, "score": int(t)} for t in "32"]},
    "Anthropic HH (raw turns)": {
        "chosen": "\n\nHuman: q\n\nAssistant: 2", "rejected": "\n\nHuman: q\n\nAssistant: 3"
    },
    "GSM8K model solutions": {"question": "q", "ground_truth": "2", "6b": {"is_correct": False, "solution": "3"}},
    "problem + solution (MATH)": {"problem": "q", "solution": "It is $\\boxed{2}$.", "answer": "2"},
}  # fmt: skip
WRONG_STEPS = {"steps": [{"completions": 1}]}
ODD: list[Any] = [None, 3, True, "x", "", [], [1], [[]], [{}], {}, {"steps": [1]}, WRONG_STEPS]
Write = Callable[..., Path]


@pytest.fixture
def rows(tmp_path: Path) -> Write:
    def written(*rows: dict[str, Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return path

    return written


@pytest.mark.parametrize("name", FIRST)
def test_a_later_row_with_odd_values_is_refused_and_never_raises(rows: Write, name: str) -> None:
    first = FIRST[name]
    odd = [(value, {**first, key: value}) for key in sorted(first.keys() - {"answer"}) for value in ODD]
    read = scan(str(rows(first, *(row for _, row in odd))))
    assert read.table.format == name
    read_as = {record.source.row for record in read.table.records} - {1}
    assert all(isinstance(odd[n - 2][0], str) for n in read_as)  # of prompts and answers
    assert {fault.row for fault in read.faults} | read_as == set(range(2, 2 + len(odd)))


@pytest.mark.parametrize(
    ("name", "row", "field", "reason"),
    [
        ("prompt + lists of chosen and rejected (RewardBench 2)", {"chosen": "yes", "rejected": "no"}, "chosen",
         "and `rejected` are not two lists of texts"),
        ("prompt + lists of chosen and rejected (RewardBench 2)", {"chosen": None}, "chosen",
         "and `rejected` are not two lists of texts"),
        ("question + label of steps (PRM800K)", {"question": {"p": "q"}}, "label",
         "and `question` are not a problem and the candidates of its steps"),
        ("input + label with marks (Math-Shepherd)", {"input": 3}, "input", "is no text with ки after each step"),
        ("conversation of input + output (Capybara)", {"conversation": [{"input": "q"}]}, "conversation",
         "is no list of rounds"),
        ("problem + solution (MATH)", {"solution": "It is 2, in 3 steps."}, "",
         "has the shape problem + answer, but the rows before it problem + solution (MATH)"),
        ("GSM8K model solutions", {"7b": {"is_correct": 0, "solution": "3"}}, "7b.is_correct", "is not true or false"),
    ],
)  # fmt: skip
def test_the_fault_names_the_field(rows: Write, name: str, row: dict[str, Any], field: str, reason: str) -> None:
    fault = scan(str(rows(FIRST[name], {**FIRST[name], **row}))).faults[0]
    assert (fault.row, fault.field, fault.severity) == (2, field, "error")
    assert reason in fault.reason
