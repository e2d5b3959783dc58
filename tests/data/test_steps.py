"""Rows with rated steps: published formats, faults by row and key, and the tokens where steps end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.batch import STEP_LABEL, Role
from twofold.data.formats import read, scan
from twofold.data.kinds import RowNeeds, rows_of_kind
from twofold.data.steps import split_steps, step_ends
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Demonstration, Message, Request, Source, Steps, Task

Write = Callable[..., str]
Make = Callable[..., Any]
HERE = Source("x", 1)
TRL = {"prompt": "1 + 1?", "completions": ["1 + 1", "3"], "labels": [True, False]}
SHEPHERD = {
    "input": "1 + 1? Step 1: 1 + 1 ки\nStep 2: The answer is: 3 ки", "task": "GSM8K",
    "label": "1 + 1? Step 1: 1 + 1 +\nStep 2: The answer is: 3 -",
}  # fmt: skip
BENCH = {
    "id": "gsm8k-0", "generator": "m", "problem": "1 + 1?", "steps": ["1 + 1", "3", "4"], "label": 1,
    "final_answer_correct": False,
}  # fmt: skip


def candidate(text: str, rating: int | None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": None}


def prm800k(*steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "labeler": "0d", "timestamp": "2022", "generation": None, "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "1 + 1?", "ground_truth_solution": "2", "ground_truth_answer": "2"},
        "label": {"steps": list(steps), "total_time": 4, "finish_reason": "found_error"},
    }  # fmt: skip


def step(*candidates: dict[str, Any], chosen: int | None = None, human: str | None = None) -> dict[str, Any]:
    own = None if human is None else {"text": human, "rating": None, "source": "human"}
    return {"completions": list(candidates), "human_completion": own, "chosen_completion": chosen}


@pytest.mark.parametrize(
    ("row", "want"),
    [
        (TRL, (("1 + 1", "3"), (1.0, 0.0))),
        ({**TRL, "labels": [0.25, None]}, (("1 + 1", "3"), (0.25, None))),
        (SHEPHERD, (("Step 1: 1 + 1", "Step 2: The answer is: 3"), (1.0, 0.0))),
        (BENCH, (("1 + 1", "3", "4"), (1.0, 0.0, None))),
        ({**BENCH, "label": -1, "final_answer_correct": True}, (("1 + 1", "3", "4"), (1.0, 1.0, 1.0))),
        (prm800k(step(candidate("1 + 1", 1), chosen=0), step(candidate("3", -1))), (("1 + 1", "3"), (1.0, 0.0))),
        (prm800k(step(candidate("so", 0), chosen=0), step(candidate("?", None), candidate("3", -1)), step()),
         (("so", "3"), (1.0, 0.0))),
        (prm800k(step(candidate("3", -1), human="2")), (("2",), (1.0,))),
    ],
)  # fmt: skip
def test_published_rows(write: Write, row: dict[str, Any], want: tuple[Any, Any]) -> None:
    (record,) = read(write("rows.jsonl", row)).records
    assert isinstance(record, Steps)
    assert (record.prompt, record.steps, record.labels) == ("1 + 1?", *want)
    assert check(write("rows.jsonl", row)).ok


def test_a_chat_a_weight_and_further_candidates(write: Write) -> None:
    chat = {**TRL, "prompt": [{"role": "user", "content": "1 + 1?"}], "system": "Be brief.", "weight": 2}
    (record,) = read(write("rows.jsonl", chat)).records
    assert record.prompt == (Message("system", "Be brief."), Message("user", "1 + 1?"))
    assert getattr(record, "weight", None) == 2
    (fault,) = scan(write("rows.jsonl", prm800k(step(candidate("2", 1), candidate("3", -1), chosen=0)))).faults
    assert (fault.severity, fault.field) == ("warning", "label")
    assert "1 further rated candidates" in fault.reason


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({**TRL, "labels": [True]}, "labels", "has 1 labels for 2 steps"),
        ({**TRL, "labels": [True, "no"]}, "labels[2]", "is text, not true, false or a probability"),
        ({**TRL, "labels": [True, 2]}, "labels[2]", "is 2, not true, false or a probability"),
        ({**TRL, "labels": [None, None]}, "labels", "rate no step"),
        ({**TRL, "labels": "yes"}, "labels", "is text, not a list"),
        ({**TRL, "completions": [], "labels": []}, "completions", "is empty"),
        ({**TRL, "completions": ["1 + 1", " "]}, "completions[2]", "is only white space"),
        ({**TRL, "completions": ["1 + 1", 3]}, "completions[2]", "is a number, not the text of a step"),
        ({**BENCH, "label": 3}, "label", "is not the place of a step"),
        ({**BENCH, "label": True}, "label", "is not the place of a step"),
        ({**SHEPHERD, "label": SHEPHERD["label"].replace("-", "?")}, "label", "with + or - after step 2"),
        ({**SHEPHERD, "label": "x"}, "label", "with + or - after step 1"),
        ({**SHEPHERD, "input": SHEPHERD["input"] + " more"}, "input", "has text behind its last ки"),
        ({"input": "1 + 1? 2 ки", "label": "1 + 1? 2 +"}, "input", "has no `Step 1:`"),
        (prm800k(step(candidate("2", 5), chosen=0)), "label.steps[1].rating", "is none of -1, 0 and 1"),
        (prm800k(step(candidate("2", 1), chosen=4)), "label.steps[1]", "names candidate 4 of 1"),
        (prm800k(step(candidate("2", None))), "labels", "rate no step"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_row_and_key(write: Write, row: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read(write("rows.jsonl", row))
    assert "rows.jsonl:1" in str(error.value)
    assert field in str(error.value)
    assert message in str(error.value)
    assert "→" in str(error.value)


def test_what_else_rated_steps_are_rows_of() -> None:
    right, wrong = (Steps("1 + 1?", ("1 + 1", "2"), labels, HERE) for labels in ((1.0, None), (1.0, 0.0)))

    def rows(record: Steps, kind: Any) -> Any:
        return rows_of_kind([record], RowNeeds(kind, (), "X"))

    assert rows(right, "steps") == [right]
    assert rows(right, "demonstrations") == [Demonstration("1 + 1?", "1 + 1\n2", HERE)]
    assert rows(right, "prompts") == [Task("1 + 1?", "1 + 1\n2", HERE)]
    assert rows(wrong, "prompts") == [Request("1 + 1?", HERE)]
    for record, kind in ((wrong, "demonstrations"), (right, "pairs")):
        with pytest.raises(DataError, match="this row is a solution with rated steps"):
            rows(record, kind)


def stopped(tokenizer: Any, how: TokenizeSettings | None = None) -> Encoder:
    return Encoder(tokenizer, frozenset({tokenizer.eos_token_id}), how)


def labels(encoder: Encoder, record: Steps) -> tuple[str, list[tuple[str, float]]]:
    """A solution's text, and the text up to each rated step with its label."""
    (branch,) = encoder.group(record).branches
    assert branch.role is Role.STEPS
    column = branch.token_columns[STEP_LABEL].tolist()
    rated = [(encoder.text(branch.tokens[:at]), label) for at, label in enumerate(column) if label >= 0]
    return encoder.text(branch.tokens), rated


def test_labels_are_at_the_token_after_each_step(tokenizer: Make) -> None:
    """The step's own last token, of bytes or merged with the separator; unrated steps have no label."""
    record = Steps("1 + 1?", ("aé", "b", "ab"), (1.0, None, 0.0), HERE)
    apart, merged = tokenizer(template=None), tokenizer(template=None, merges=(("b", "Ċ"), ("a", "b")))
    assert labels(stopped(apart), record) == ("aé\nb\nab", [("aé", 1.0), ("aé\nb\nab", 0.0)])
    every = Steps("1 + 1?", ("aé", "b", "ab"), (1.0, 0.75, 0.0), HERE)
    assert labels(stopped(merged), every)[1] == [("aé", 1.0), ("aé\nb\n", 0.75), ("aé\nb\nab", 0.0)]


def test_the_separator_is_a_setting_and_a_cut_solution_keeps_the_steps_that_are_left(tokenizer: Make) -> None:
    record = Steps("q", ("a", "b"), (1.0, 0.0), HERE)
    whole = stopped(tokenizer(template=None), TokenizeSettings(step_separator=" ; "))
    assert labels(whole, record) == ("a ; b", [("a", 1.0), ("a ; b", 0.0)])
    cut = TokenizeSettings(step_separator=" ; ", max_length=6, truncation="cut_completion")
    assert labels(stopped(tokenizer(template=None), cut), record) == ("a ; b", [("a", 1.0)])
    with pytest.raises(ValueError, match="step_separator must not be empty"):
        TokenizeSettings(step_separator="")


def test_a_word_that_pads_is_text(tokenizer: Make) -> None:
    """A reward model of a tokenizer without a padding token pads with a word, which is a special token from then on."""
    made = tokenizer(template=None, pad_token="a")
    record = Steps("q", ("ab", "ba"), (1.0, 0.0), HERE)
    encoder = stopped(made)
    (branch,) = encoder.group(record).branches
    assert encoder.solution(branch.tokens) == "ab\nba"
    assert branch.token_columns[STEP_LABEL].tolist() == [-1, -1, 1, -1, -1, 0]


def test_a_chat_template_renders_the_steps_as_one_answer(tokenizer: Make) -> None:
    chat = Steps((Message("user", "q"),), ("a", "b"), (1.0, 0.0), HERE)
    assert labels(stopped(tokenizer(eos_token="<|im_end|>")), chat) == ("a\nb", [("a", 1.0), ("a\nb", 0.0)])


def test_steps_of_a_text() -> None:
    assert split_steps("a\n\n b\n", "\n") == ("a", " b")
    assert split_steps("a\n\nb", "\n\n") == ("a", "b")
    assert split_steps(" \n", "\n") == ()


def test_steps_that_no_token_tells_apart_are_refused() -> None:
    def text(ids: Any) -> str:
        return "".join("ab"[:2] if i else "" for i in ids)

    with pytest.raises(DataError, match=r"x:1.*completions\[2\].*ends in the same token as the step before"):
        step_ends(text, [1, 0], ["a", "b"], HERE)
    with pytest.raises(DataError, match=r"x:1.*completions\[1\].*is not in the solution"):
        step_ends(text, [1, 0], ["c"], HERE)
