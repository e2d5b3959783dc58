"""Problems whose answers are JSON, and which further columns make a prompt more than a prompt."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from twofold.data.shapes import detect
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.single import CHOICES, INSTRUCTED
from twofold.records import Source, Task

AT = Source("f", 3)


def test_instructions_are_json_with_letters_as_they_are() -> None:
    """A time of a table is a text; what is null is left out, and a `kind` of the arguments' own is not read."""
    row = {
        "prompt": "p", "instruction_id_list": ["é:a", "b"],
        "kwargs": [{"x": "ü", "kind": "no", "y": None}, {"day": datetime.date(2024, 2, 29), "n": 0}],
    }  # fmt: skip
    fields = Fields(row, AT)
    answer = '[{"kind": "é:a", "x": "ü"}, {"kind": "b", "day": "2024-02-29", "n": 0}]'
    assert INSTRUCTED[0].parse(fields) == Task("p", answer, AT)
    assert fields.faults == []


def test_choices_are_json_with_letters_as_they_are() -> None:
    row = {"question": "q", "mc1_targets": {"é": 1, "b": 0}, "mc2_targets": {"choices": ("a", "ü"), "labels": (0, 1)}}
    fields = Fields(row, AT)
    answer = '{"mc1": [["é", 1], ["b", 0]], "mc2": [["a", 0], ["ü", 1]]}'
    assert CHOICES[0].parse(fields) == Task("q", answer, AT)
    assert fields.faults == []
    odd = Fields({**row, "mc2_targets": {"a": datetime.date(2024, 2, 29)}}, AT)
    task = CHOICES[0].parse(odd)
    assert isinstance(task, Task)
    assert '"mc2": [["a", "2024-02-29"]]' in task.answer
    assert [fault.reason for fault in odd.faults] == ["is no list of texts with labels 0 and 1"]


@pytest.mark.parametrize("name", ["mc0_targets", "best_answer"])
def test_what_else_a_set_has_is_known(name: str) -> None:
    row = {"question": "q", "mc1_targets": {"a": 1}, "mc2_targets": {"a": 1}, name: "x"}
    shape = detect(row)
    assert shape is CHOICES[0]
    assert name in CHOICES[0].beside(row)


@pytest.mark.parametrize(
    ("column", "alone"),
    [
        ("context", True),
        ("level", True),
        ("x" * 61, True),
        ("respons", False),
        ("Answer_1", False),
        ("COMPLETION", False),
        ("outputs", False),
        ("texts", False),
    ],
)
def test_a_prompt_is_alone_without_what_looks_like_an_answer(column: str, alone: bool) -> None:
    shape = detect({"prompt": "p", column: "x"})
    assert (None if shape is None else shape.name) == ("prompt" if alone else None)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "p", "answer": "a"}, "prompt + answer"),
        ({"question": "p", "answer": "a"}, "question + answer"),
        ({"prompt": "p", "answer": "a", "answers": "b"}, "prompt + answer"),
        ({"question": "p", "answer": "a", "answers": ["b"]}, "question + answer"),
        ({"prompt": "p", "answer": "a", "answers": ["b", "c"]}, None),
        ({"text": "t"}, "text"),
        ({"text": "t", "prompt": "p", "level": 1}, None),
    ],
)
def test_answers_in_no_order_are_for_a_judge(row: dict[str, Any], name: str | None) -> None:
    shape = detect(row)
    assert (None if shape is None else shape.name) == name


@pytest.mark.parametrize(("label", "beside"), [("pos", ("label",)), (1, ("label",)), (None, ("label",)), (True, ())])
def test_the_class_of_a_text_is_no_label(label: Any, beside: tuple[str, ...]) -> None:
    row = {"text": "t", "label": label}
    shape = detect(row)
    assert shape is not None
    assert (shape.name, shape.beside(row)) == ("text", beside)
