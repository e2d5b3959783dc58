"""Prompts come from rows of any shape, with what the rows know of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError
from twofold.judges.questions import Question, read_questions
from twofold.records import Message

CHAT = [{"role": "user", "content": "p"}]


def read(path: Path, *rows: Any, **options: Any) -> list[Question]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_questions(str(path), **options).questions


@pytest.mark.parametrize(
    ("row", "answer", "texts"),
    [
        ({"prompt": "p"}, None, ()),
        ({"prompt": "p", "answer": "a"}, "a", ()),
        ({"question": "p", "answer": "a"}, "a", ()),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, None, ("a", "b")),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "answer": "t"}, "t", ("a", "b")),
        ({"prompt": "p", "completions": ["a", "b", "c"]}, None, ("a", "b", "c")),
        ({"prompt": "p", "completion": "a", "label": False}, None, ("a",)),
        ({"prompt": "p", "answers": ["b", "a"], "answer": "t"}, "t", ("b", "a")),
    ],
)
def test_every_shape_is_a_question(tmp_path: Path, row: Any, answer: str | None, texts: tuple[str, ...]) -> None:
    (question,) = read(tmp_path / "f.jsonl", row)
    assert (question.prompt, question.answer) == ("p", answer)
    assert tuple(c.text for c in question.candidates) == texts
    assert [c.origin["place"] for c in question.candidates] == list(range(len(texts)))


def test_a_chat_stays_a_chat(tmp_path: Path) -> None:
    (question,) = read(tmp_path / "f.jsonl", {"prompt": CHAT, "answers": ["a"]})
    assert question.prompt == (Message("user", "p"),)


def test_prompts_come_once_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": p, "chosen": c, "rejected": "z"} for p, c in (("p", "a"), ("p", "b"), ("q", "c"), ("p", "a"))]
    path = tmp_path / "f.jsonl"
    assert len(read(path, *rows)) == 3
    assert len(read(path, *rows, with_answers=False)) == 2
    assert read_questions(str(path), with_answers=False).repeated == 2
    assert [q.source.row for q in read(path, *rows, with_answers=False, limit=1)] == [1]


def test_where_an_answer_came_from_is_remembered(tmp_path: Path) -> None:
    origins = [{"model": "m", "sample": 0}, {"model": "m", "sample": 1}]
    (question,) = read(tmp_path / "f.jsonl", {"prompt": "p", "answers": ["a", "b"], "provenance": {"answers": origins}})
    assert [c.origin for c in question.candidates] == origins


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "p", "answers": ["a", 1]}, "`answers`: is no list of texts"),
        ({"prompt": 3}, "`prompt`: is a number"),
        ({"promt": "p"}, "no known shape"),
        (
            {"prompt": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]},
            "ends with an assistant",
        ),
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, row: Any, what: str) -> None:
    with pytest.raises(DataError, match=r"f\.jsonl:2") as caught:
        read(tmp_path / "f.jsonl", {"prompt": "ok"}, row)
    assert what in str(caught.value)


def test_a_row_that_training_passes_over_is_no_question(tmp_path: Path) -> None:
    solved = {"question": "1 + 1?", "ground_truth": "#### 2"}
    tries = [{"solution": f"#### {n}", "is_correct": n == 2} for n in (2, 3)]
    (question,) = read(tmp_path / "f.jsonl", *({**solved, "175b": found} for found in tries))
    assert (question.source.row, [c.text for c in question.candidates]) == (2, ["#### 2", "#### 3"])
