"""Answers are read as GSM8K's own code reads them, and as people mean them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError
from twofold.rewards.verifier import REMEDY, VerifierReward, answerable, flexible, judge, same_number, strict, truth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 9 * 2 = <<9*2=18>>18.\n#### 18", "18"),
        ("#### 1,000", "1000"),
        ("#### 18.", "18"),
        ("#### -7", "-7"),
        ("#### 18\n#### 19", "18"),
        ("#### 2.50 dollars", "2.50"),
        ("#### 1,234.5", "1234.5"),
        ("#### 1.234.567", None),
        ("#### 1.234,5", None),
        ("#### 1,2", None),
        ("#### -", None),
        ("#### 3/4", None),
        ("#### 18.5...", None),
        ("#### 18\n...", "18"),
        ("The answer is 18.", None),
        ("####18", None),
        ("#### $18", None),
        ("", None),
    ],
)
def test_strict_is_gsm8ks_rule(text: str, expected: str | None) -> None:
    assert strict(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18", "18"),
        ("That makes 18 dollars", "18"),
        ("It costs $18.", "18"),
        ("$1,234,567.", "1234567"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\u22127 degrees", "-7"),
        ("16-3", None),
        ("16 - 3", None),
        ("(16)-3", None),
        ("16-3=13", "13"),
        ("GPT-4", "4"),
        ("Total - 3", "3"),
        ("= - 3", None),
        ("x = -3.", "-3"),
        ("1,2,3", None),
        ("1, 2, 3", "3"),
        ("<<9*2=18>>18", "18"),
        ("<answer>18</answer>", "18"),
        ("18<|im_end|>", "18"),
        ("a 10-year-old", "10"),
        ("10^{-6}", None),
        ("x > 5", None),
        ("Step 3: 18", "18"),
        ("18.0", "18.0"),
        ("about .5", ".5"),
        ("see No.5", "5"),
        ("**42**", "42"),
        ("50%", "50"),
        ("from 12 to 15 eggs", "15"),
        ("no number", None),
    ],
)
def test_flexible_takes_the_last_number(text: str, expected: str | None) -> None:
    assert flexible(text) == expected


def test_same_number_compares_values() -> None:
    assert same_number("18.0", "18")
    assert same_number("-.5", "-0.50")
    assert same_number("0", "-0")
    assert not same_number("18", "18.01")
    assert not same_number(None, None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Worked 3 * 6.\n#### 18", "18"),
        ("Worked 3 * 6.\nA: 18", "18"),
        ("A: $1,000", "1000"),
        ("Q: 1+1\nA: 17\nQ: 9+9\nA: 18", "18"),
        ("A:\n18", "18"),
        ("#### 18\nA: 19", "18"),
        (r"\boxed{17} and then \boxed{18}", "18"),
        ("There are 3*6=18 eggs. They are sold.", "18"),
        ("18", "18"),
        ("eighteen, i.e. $18", "18"),
        ("#### ... 18", "18"),
    ],
)
def test_truth_reads_every_form_of_answer(answer: str, expected: str) -> None:
    assert truth(answer) == expected


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("eighteen", "the answer 'eighteen' holds no number"),
        ("a\n#### b", r"the answer 'a #### b' holds no number"),
        ("#### a, 18", "the answer 'a, 18' is no plain number"),
        ("#### x18", "the answer 'x18' is no plain number"),
        ("#### at most 18", "the answer 'at most 18' is no plain number"),
        ("", "the answer '' holds no number"),
        ("#### " + "1" * 4001, f"the answer '{'1' * 59}…' is no plain number"),
        ("#### 1\n#### 2\n#### 1.0", "the answer '#### 1 #### 2 #### 1.0' has several final answers: 1, 2, 1.0"),
    ],
)  # fmt: skip
def test_truth_refuses_what_is_no_plain_number(answer: str, what: str) -> None:
    with pytest.raises(DataError) as error:
        truth(answer)
    assert (error.value.what, error.value.where, error.value.remedy) == (what, "", REMEDY)
    with pytest.raises(DataError) as placed:
        answerable(answer, "f:3")
    assert (placed.value.what, placed.value.where, placed.value.remedy) == (what, "f:3", REMEDY)


def test_a_long_number_is_still_one() -> None:
    assert truth("#### " + "1" * 4000) == "1" * 4000
    assert truth("#### 1\n#### 1.0") == "1"
    answerable("#### 18", "f:3")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("3/8 + 3/8 = 3/4\n#### 3/4", "'3/4' is no plain number"),
        ("A: $1,000 in 12 months", r"'\$1,000 in 12 months' is no plain number"),
        ("#### 18\n#### 19", "several final answers: 18, 19"),
        ("between 3 and 4", "no plain number"),
        ("x = 2 or x = 3", "no plain number"),
    ],
)
def test_truth_refuses_what_is_more_than_one_plain_number(answer: str, shown: str) -> None:
    with pytest.raises(DataError, match=shown) as error:
        truth(answer)
    assert "verifier:math" in error.value.remedy


def test_a_row_whose_answer_cannot_be_read_is_named() -> None:
    with pytest.raises(DataError, match=r"^test\.jsonl:12: the answer '12:30' is no plain number"):
        answerable("#### 12:30", "test.jsonl:12")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("#### 18", (True, True)),
        ("#### 18.0", (False, True)),
        ("It is 18", (False, True)),
        ("#### 18\nand 5 more", (True, False)),
        ("#### 19", (False, False)),
        ("", (False, False)),
    ],
)
def test_judge_gives_both_verdicts(completion: str, expected: tuple[bool, bool]) -> None:
    verdict = judge(completion, "…\n#### 18")
    assert (verdict.strict, verdict.flexible) == expected


def test_a_completion_earns_1_or_0() -> None:
    right = "6*3=18\n#### 18"
    for reward, lax in ((VerifierReward("strict"), 0.0), (VerifierReward("flexible"), 1.0)):
        assert reward("", "9+9=18\n#### 18", right) == 1.0
        assert reward("", "9+8=17\n#### 17", right) == 0.0
        assert reward("", "It is 18", right) == lax


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_verdicts_agree_with_openais_labels(shared: Path) -> None:
    rows = lines(shared / "data" / "gsm8k" / "example_model_solutions.jsonl")
    models = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    pairs = [(row[m], row["ground_truth"]) for row in rows for m in models]
    agree = [judge(said["solution"], answer).flexible == said["is_correct"] for said, answer in pairs]
    assert len(agree) == 4 * 1319
    assert sum(agree) / len(agree) >= 0.98


def test_truths_of_both_files_are_the_same(shared: Path) -> None:
    problems = lines(shared / "data" / "gsm8k" / "test.jsonl")
    solved = lines(shared / "data" / "gsm8k" / "example_model_solutions.jsonl")
    assert [truth(row["answer"]) for row in problems] == [truth(row["ground_truth"]) for row in solved]
