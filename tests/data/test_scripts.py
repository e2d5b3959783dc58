"""Completions in another script than their prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.data.looks import Further
from twofold.data.scripts import main_script
from twofold.data.validate import check

Write = Callable[..., str]
ENGLISH = "What is the capital city of France?"
RUSSIAN = "Столица Франции называется Париж."
JAPANESE = "フランスの首都はパリです。とてもきれいなまちですね。"
CHINESE = "法国的首都是巴黎，它是世界上最美丽的城市之一，有很多游客来参观。"


def found(write: Write, *rows: dict[str, Any]) -> list[tuple[int, str, str]]:
    faults = check(write("rows.jsonl", *rows), further=Further(scripts=True)).faults
    return [(f.row, f.field, f.reason) for f in faults if f.check == "other script"]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (ENGLISH, "Latin"),
        (RUSSIAN, "Cyrillic"),
        (JAPANESE, "Japanese"),
        (CHINESE, "Cjk"),
        ("1 + 1", ""),
        ("¿Qué?", "Latin"),
    ],
)
def test_the_script_of_a_text(text: str, script: str) -> None:
    assert main_script(text) == script


def test_an_answer_in_another_script_is_named_with_its_row_and_field(write: Write) -> None:
    rows = [
        {"prompt": ENGLISH, "chosen": "The capital is Paris.", "rejected": RUSSIAN},
        {"prompt": [{"role": "user", "content": RUSSIAN}], "chosen": RUSSIAN + "!", "rejected": ENGLISH},
    ]
    reasons = [f"is in {a} letters, the text that it belongs to in {b} ones" for a, b in
               (("Cyrillic", "Latin"), ("Latin", "Cyrillic"))]  # fmt: skip
    assert found(write, *rows) == [(1, "rejected", reasons[0]), (2, "rejected", reasons[1])]
    assert not check(write("again.jsonl", *rows)).counts.get("other script"), "only where it is wanted"


@pytest.mark.parametrize(
    ("prompt", "chosen"),
    [
        (ENGLISH, "Париж"),  # few letters
        ("2+2?", RUSSIAN),  # a prompt of few letters
        (ENGLISH, f"{RUSSIAN} In English: Paris it is."),  # both
        (CHINESE, JAPANESE),
        (JAPANESE, CHINESE),
        (ENGLISH, "12345 67890 12345 67890 12345 67890"),
    ],
)
def test_what_is_no_evidence_of_another_language(write: Write, prompt: str, chosen: str) -> None:
    assert found(write, {"prompt": prompt, "chosen": chosen, "rejected": "?"}) == []


def test_without_a_prompt_the_others_are_compared_with_the_first(write: Write) -> None:
    row = {"prompt": "", "chosen": ENGLISH, "rejected": RUSSIAN}
    assert [each[:2] for each in found(write, row)] == [(1, "rejected")]
