"""The answers of players that need no model: files and the rows' own; and what is refused before anything is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError, ServerError
from twofold.evaluation.parts import WHOLE
from twofold.evaluation.player_answers import AnswerBook, Drawing, _answer_only, ledger_path, questions_for
from twofold.evaluation.players import REFERENCE, Player
from twofold.evaluation.prompting import Prompter
from twofold.evaluation.win_rate import WinRateSettings, measure_win_rate
from twofold.judges.questions import Question
from twofold.ledger import Ledger
from twofold.records import Candidate, Message, Pair, Request, Source, Task

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


class Answering:
    """Answers `texts` to every prompt, and records how it was asked; None is a missing answer."""

    def __init__(self, *texts: str | None) -> None:
        self.texts, self.asked = texts, list[Any]()

    def answers(self, prompts: Any, draw: Any, ledger: Any, progress: Any) -> list[Any]:
        self.asked.append((prompts, draw))
        made = [Candidate(text, {}) for text in self.texts if text is not None]
        return [None if None in self.texts and n else made for n, _ in enumerate(prompts)]


class Rating:
    """The length of a text; nothing for the first `missing` questions."""

    def __init__(self, missing: int = 0) -> None:
        self.missing, self.asked = missing, list[Any]()

    def scores(self, questions: Any, progress: Any) -> list[Any]:
        self.asked += questions
        rated = [[float(len(c.completion)) for c in q.candidates] for q in questions]
        return [None if n < self.missing else row for n, row in enumerate(rated)]


def test_the_best_of_each_n_samples_by_its_reward(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    made, judge = book(samples=2, seed=5, max_new_tokens=9), Rating()
    answerer = Answering("a", "aaa", "aa", "b", "bb", "bbbb")
    monkeypatch.setattr(made, "_answerer", lambda model: answerer)
    monkeypatch.setattr(made, "_judge", lambda reward: judge)
    player = Player(model="m", best_of=3, reward="reward:r", temperature=1.0)
    assert [[c.completion for c in several] for several in made.of(player)] == [["aaa", "bbbb"]] * 3
    ((prompts, draw),) = answerer.asked
    assert prompts == ["four", "la", "so"]
    noise = hashlib.sha256(b"5/best-of:3").digest()
    assert (draw.samples, draw.seed) == (6, int.from_bytes(noise[:4], "little"))
    assert (draw.sampling.temperature, draw.sampling.max_new_tokens) == (1.0, 9)
    assert [(q.prompt, [c.completion for c in q.candidates]) for q in judge.asked[:3]] == [
        ("four", ["a", "aaa", "aa"]), ("four", ["b", "bb", "bbbb"]), ("la", ["a", "aaa", "aa"]),
    ]  # fmt: skip
    assert made.of(player) is made.of(player)
    assert len(answerer.asked) == 1


@pytest.mark.parametrize(("temperature", "samples"), [(0.0, 1), (0.5, 2)])
def test_a_greedy_player_answers_once(
    book: Book, temperature: float, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, answerer = book(samples=2, seed=5), Answering("a")
    monkeypatch.setattr(made, "_answerer", lambda model: answerer)
    made.of(Player(model="m", temperature=temperature))
    ((_, draw),) = answerer.asked
    assert (draw.samples, draw.seed, draw.sampling.temperature) == (samples, 5, temperature)
    assert draw.sampling.stop == ()


def test_what_is_missing_is_counted(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    made = book()
    monkeypatch.setattr(made, "_answerer", lambda model: Answering("a", None))
    with pytest.raises(ServerError, match="answers to 2 prompts are missing") as refused:
        made.of(Player(model="m", temperature=1.0))
    assert refused.value.where == "m"
    rated = book()
    monkeypatch.setattr(rated, "_answerer", lambda model: Answering("a", "b"))
    monkeypatch.setattr(rated, "_judge", lambda reward: Rating(missing=1))
    with pytest.raises(ServerError, match="scores of 1 prompt are missing") as unrated:
        rated.of(Player(model="m", best_of=2, reward="reward:r", temperature=1.0))
    assert unrated.value.where == "reward:r"


def test_an_answer_alone_has_no_reasoning() -> None:
    thought = Message("assistant", "4", json.dumps({"reasoning_content": "2 + 2"}))
    assert _answer_only(Candidate((thought,), {"row": 1}, True)) == Candidate("4", {"row": 1}, True)
