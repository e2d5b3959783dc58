"""The answers of players that need no model: files and the rows' own; and what is refused before anything is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.evaluation.parts import WHOLE
from twofold.evaluation.player_answers import AnswerBook, Drawing, ledger_path, questions_for
from twofold.evaluation.players import REFERENCE, Player
from twofold.evaluation.prompting import Prompter
from twofold.evaluation.win_rate import WinRateSettings, measure_win_rate
from twofold.judges.questions import Question
from twofold.ledger import Ledger
from twofold.records import Candidate, Pair, Request, Source, Task

ROWS = [
    Task("four", "#### 4", Source("t.jsonl", 1)), Pair("la", "do", "re", Source("t.jsonl", 2)),
    Request("so", Source("t.jsonl", 3)),
]  # fmt: skip
SAID = [("four", "4"), ("la", "fa"), ("so", "mi"), ("la", "ti"), ("la", "do")]
Book = Callable[..., AnswerBook]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with ExitStack() as resources:
        ledger = resources.enter_context(Ledger(tmp_path / "ledger.jsonl"))

        def make(count: int = 3, **how: Any) -> AnswerBook:
            prompter = Prompter([], any_rows=True)
            return AnswerBook(questions_for(ROWS[:count]), prompter, Drawing(**how), ledger, resources)

        yield make


@pytest.fixture
def said(tmp_path: Path) -> Path:
    path = tmp_path / "said.jsonl"
    rows = [json.dumps({"prompt": prompt, "completion": completion}) + "\n" for prompt, completion in SAID]
    path.write_text("".join(rows), encoding="utf-8")
    return path


def test_rows_as_questions() -> None:
    four, la, so = questions_for(ROWS)
    assert four == Question("four", Source("t.jsonl", 1), "#### 4", (Candidate("#### 4", {}),))
    assert la == Question("la", Source("t.jsonl", 2), None, (Candidate("do", {}),))
    assert so == Question("so", Source("t.jsonl", 3), None, ())


def test_a_file_answers_by_prompt(book: Book, said: Path) -> None:
    player, made = Player(model=str(said)), book(samples=2)
    made.draw([player])
    assert [[c.completion for c in several] for several in made.of(player)] == [["4"], ["fa", "ti"], ["mi"]]
    digest = hashlib.sha256(said.read_bytes()).hexdigest()[:12]
    assert made.of(player)[1][1].origin == {"file": str(said), "row": 4, "weights": digest}
    assert made.weights(player) == digest
    assert (made.prompts(player), made.about(player)) == (["four", "la", "so"], {"style": "file"})
    assert [len(several) for several in book(samples=1).of(player)] == [1, 1, 1]
    said.write_text('{"prompt": "la", "completion": "fa"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"said\.jsonl: has no answer to 2 prompts, the first of t\.jsonl:1"):
        book().check([player])


def test_the_rows_own_answers(book: Book) -> None:
    player, made = Player(model=REFERENCE), book(2)
    assert [[c.completion for c in several] for several in made.of(player)] == [["#### 4"], ["do"]]
    assert (made.weights(player), made.about(player)) == ("", {"style": "reference"})
    with pytest.raises(DataError, match=r"t\.jsonl:3: has no answer to compare with"):
        book().check([player])


def test_worked_examples_need_rows(book: Book) -> None:
    book().check([Player(model="m")])
    book(shots=2).check([Player(model="m", shots=0)])
    for made, player in ((book(), Player(model="m", shots=1)), (book(shots=2), Player(model="m"))):
        with pytest.raises(RecipeError, match="@shots: no worked examples"):
            made.check([player])


def test_the_ledger_of_a_server_has_a_folder(tmp_path: Path) -> None:
    with ExitStack() as resources:
        assert ledger_path(tmp_path, ["http://h/v1#m"], resources) == tmp_path / "ledger.jsonl"
        passing = ledger_path(None, ["m", None], resources)
        assert (passing.name, passing.parent.is_dir()) == ("ledger.jsonl", True)
        with pytest.raises(RecipeError, match="no folder for a server's answers"):
            ledger_path(None, ["m", "http://h/v1#m"], resources)
    assert not passing.parent.exists()


def test_the_constant_answer_is_of_temperature_0(said: Path) -> None:
    """Whatever the temperatures of the others; and it plays each prompt once."""
    how = WinRateSettings(judge="verifier:flexible", against=str(said), temperatures=[0.5], canary="so 4")
    lines = measure_win_rate([str(said)], ROWS[:1], how, WHOLE)
    assert lines["canary"].about == {"model": "canary", "temperature": 0.0}
    assert [(r["prompt"], r["own"], r["other"], r["share"], r["cut"]) for r in lines["canary"].rows] == [
        ("four", "so 4", "4", 0.5, False)
    ]
