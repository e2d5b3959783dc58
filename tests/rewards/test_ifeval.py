"""IFEval's kinds of instructions: every recorded verdict of lm-eval again, and what is refused."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.rewards import ifeval, instructions
from twofold.rewards.verifier import Verdict

RECORD = json.loads((Path(__file__).parents[1] / "parity" / "lm_eval_ifeval.json").read_text(encoding="utf-8"))
CASES: dict[str, list[Any]] = defaultdict(list)
for case in RECORD["cases"]:
    CASES[case[1]].append(case)


def test_the_record_has_every_kind_with_both_verdicts() -> None:
    assert list(CASES) == list(ifeval.KINDS)
    assert len(RECORD["cases"]) >= 500
    for kind, cases in CASES.items():
        assert {strict for *_, strict, _ in cases} == {True, False}, kind
    assert sum(strict != loose for *_, strict, loose in RECORD["cases"]) > 15


@pytest.mark.parametrize("kind", ifeval.KINDS)
def test_verdicts_are_those_of_lm_eval(kind: str) -> None:
    try:
        ifeval.require_packages([ifeval.Instruction(kind, {})])
    except RecipeError as error:
        pytest.skip(f"{error.what}: {error.remedy}")
    for text, _, arguments, strict, loose in CASES[kind]:
        told = [ifeval.instruction(kind, arguments)]
        answer = RECORD["texts"][text]
        assert (ifeval.strict(answer, told), ifeval.loose(answer, told)) == ([strict], [loose]), (answer, arguments)
        assert ifeval.follows(answer, kind, arguments) == strict


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        ("keywords:exist", {}, "'keywords:exist' is no kind"),
        ("keywords:existence", {"keywords": None}, "lacks its argument `keywords`"),
        ("keywords:existence", {"keywords": "sea"}, "not a list of texts"),
        ("punctuation:no_comma", {"relation": "at least"}, "has no argument `relation`"),
        ("length_constraints:number_words", {"num_words": "5", "relation": "at least"}, "not a number"),
        ("length_constraints:number_words", {"num_words": 5, "relation": "at most"}, "'less than' or 'at least'"),
        ("length_constraints:nth_paragraph_first_word",
         {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"}, "nth_paragraph is above"),
    ],
)  # fmt: skip
def test_wrong_instructions_are_refused(kind: str, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError) as error:
        ifeval.instruction(kind, arguments)
    assert named in error.value.what


def test_null_arguments_are_none_and_floats_are_numbers() -> None:
    told = ifeval.instruction(
        "length_constraints:number_words", {"num_words": 2.0, "relation": "less than", "letter": None}
    )
    assert told.arguments == {"num_words": 2, "relation": "less than"}


def test_a_verifier_of_instructions_reads_them_as_json() -> None:
    rules = '[{"kind": "punctuation:no_comma"}, {"kind": "keywords:existence", "keywords": ["sea"]}]'
    assert instructions.judge("The sea", rules) == Verdict(strict=True, flexible=True)
    assert instructions.judge("Sure, here:\nThe sea", rules) == Verdict(strict=False, flexible=True)
    assert instructions.judge("The lake", rules) == Verdict(strict=False, flexible=False)
    with pytest.raises(DataError) as error:
        instructions.readable('[{"kind": "sea"}]', "rows.jsonl:3")
    assert error.value.where == "rows.jsonl:3"


def test_every_loose_verdict_may_come_from_another_variant() -> None:
    """The first line goes for one instruction, the asterisks for the other; no variant alone follows both."""
    told = ifeval.instructions_of(
        '[{"kind": "detectable_format:number_highlighted_sections", "num_highlights": 1},'
        ' {"kind": "punctuation:no_comma"}]'
    )
    assert ifeval.strict("Sure, *yes*\nNo", told) == [True, False]
    assert ifeval.loose("Sure, *yes*\nNo", told) == [True, True]
