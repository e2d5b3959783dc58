"""Two turns of a player: temperatures by category, the second question after the first answer, and published files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError
from twofold.evaluation.conversations import conversations
from twofold.evaluation.players import Player
from twofold.evaluation.published_rows import MtQuestion
from twofold.judges.questions import Question
from twofold.records import Candidate, Message, Request, Source


def question(number: int, category: str) -> MtQuestion:
    return MtQuestion(Request(f"first {number}?", Source("q", number)), number, category, str(80 + number), "then?")


class Book:
    """Answers each question by its player's temperature and the number of its turns."""

    def __init__(self) -> None:
        self.asked: list[tuple[float | None, list[tuple[Message, ...]], list[int]]] = []
        self._questions: Sequence[Question] = ()

    def on(self, questions: Sequence[Question]) -> Book:
        self._questions = questions
        return self

    def of(self, player: Player) -> list[list[Candidate]]:
        prompts: list[Any] = [q.prompt for q in self._questions]
        self.asked.append((player.temperature, prompts, [q.source.row for q in self._questions]))
        origin = {"sample": 0, "row": 1, "sampling": "x", "weights": "w"}
        return [[Candidate(f"{prompt[-1].content} {len(prompt)}", origin)] for prompt in prompts]


def test_categories_have_their_temperatures_and_places() -> None:
    book: Any = Book()
    questions = [question(n, c) for n, c in enumerate(("math", "writing", "stem", "math", "roleplay", "humanities"))]
    found = conversations(book, questions, Player(model="org/model"))
    assert [each.temperature for each in found] == [0.0, 0.7, 0.1, 0.0, 0.7, 0.1]
    assert [[a.completion for a in each.answers] for each in found] == [
        [f"first {n}? 1", "then? 3"] for n in range(6)
    ]  # fmt: skip
    assert [(heat, rows) for heat, _, rows in book.asked] == [
        (0.0, [0, 3]), (0.0, [0, 3]), (0.7, [1, 4]), (0.7, [1, 4]), (0.1, [2, 5]), (0.1, [2, 5]),
    ]  # fmt: skip
    opening, following = book.asked[0][1][1], book.asked[1][1][1]
    assert opening == (Message("user", "first 3?"),)
    assert following == (*opening, Message("assistant", "first 3? 1"), Message("user", "then?"))
    assert dict(found[0].about) == {"kind": "model", "weights": "w"}


def test_a_player_s_own_temperature_goes_first() -> None:
    book: Any = Book()
    found = conversations(book, [question(1, "writing"), question(2, "math")], Player(model="m", temperature=0.3))
    assert [each.temperature for each in found] == [0.3, 0.3]
    assert [rows for _, _, rows in book.asked] == [[1, 2], [1, 2]]


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_published_file_has_both_answers(tmp_path: Path) -> None:
    file = write(tmp_path / "m.jsonl", {"question_id": 81, "choices": [{"turns": ["a", "b", "c"]}]})
    (found,) = conversations(Book(), [question(1, "writing")], Player(model=file))  # type: ignore[arg-type]
    assert [(each.completion, each.origin) for each in found.answers] == [("a", {"file": file}), ("b", {"file": file})]
    assert (found.temperature, found.about) == (None, {"kind": "file", "file": file})
    with pytest.raises(DataError) as error:
        conversations(Book(), [question(2, "math")], Player(model=file))  # type: ignore[arg-type]
    assert error.value.what == "has no answer to question_id 82"
    assert (error.value.where, error.value.remedy) == (file, "add its row, or use --limit")


@pytest.mark.parametrize("turns", [["a"], "ab", []])
def test_a_published_row_without_two_turns_is_refused(tmp_path: Path, turns: Any) -> None:
    file = write(
        tmp_path / "m.jsonl", {"question_id": 81, "choices": [{"turns": ["a", "b"]}]},
        {"question_id": 82, "choices": [{"turns": turns}]},
    )  # fmt: skip
    with pytest.raises(DataError) as error:
        conversations(Book(), [question(1, "math")], Player(model=file))  # type: ignore[arg-type]
    assert (error.value.what, error.value.where) == ("has no two turns in `choices`", f"{file}:2")
    assert error.value.remedy == "rows need question_id and choices with two turns, as FastChat writes them"


def test_a_file_in_another_form_is_a_player_s_answers(tmp_path: Path) -> None:
    file, book = write(tmp_path / "rows.jsonl", {"prompt": "first 1?", "completion": "x"}), Book()
    (found,) = conversations(book, [question(1, "math")], Player(model=file))  # type: ignore[arg-type]  # as asked
    assert (len(book.asked), found.about["kind"]) == (2, "file")
