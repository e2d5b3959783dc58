"""What an answer book hands on: to the model, to the judge, to the search, and to a book of other questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.evaluation import player_answers as module
from twofold.evaluation.player_answers import AnswerBook, Drawing, questions_for
from twofold.evaluation.players import Player
from twofold.evaluation.prompting import Prompter, Prompting
from twofold.ledger import Ledger
from twofold.records import Candidate, Completion, Message, Request, Source, Task, turns_of
from twofold.sampling.answers import LocalAnswerer

ROWS = [Task("four", "#### 4", Source("t.jsonl", 1)), Request("so", Source("t.jsonl", 2))]
Book = Callable[..., AnswerBook]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with ExitStack() as resources:
        ledger = resources.enter_context(Ledger(tmp_path / "ledger.jsonl"))

        def make(**how: Any) -> AnswerBook:
            return AnswerBook(questions_for(ROWS), Prompter([], any_rows=True), Drawing(**how), ledger, resources)

        yield make


class Local(LocalAnswerer):
    """Answers `texts` to every prompt, by sampling or by a search, and records how it was called."""

    tokenizer: Any = "tokens"

    def __init__(self, *texts: Completion) -> None:
        self.texts, self.calls = texts, list[tuple[Any, ...]]()

    def answers(self, prompts: Any, draw: Any, ledger: Any, progress: Any) -> list[Any]:
        self.calls.append((list(prompts), draw, progress))
        return [[Candidate(text, {}) for text in self.texts] for _ in prompts]

    def best_beams(self, prompts: Any, beams: Any, ledger: Any, progress: Any, guide: Any = None) -> list[Any]:
        self.calls.append((list(prompts), beams, guide))
        return [[Candidate(self.texts[0], {})] for _ in prompts]


def thought(text: str) -> Completion:
    return (Message("assistant", text, json.dumps({"reasoning_content": "2 + 2"})),)


def test_a_search_has_the_width_of_its_player_and_the_length_of_the_drawing(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, local = Heard(), Local("a")
    made = book(max_new_tokens=9, progress=heard)
    monkeypatch.setattr(made, "_answerer", lambda model: local)
    assert made.of(Player(model="m", beams=3)) == [[Candidate("a", {})]] * 2
    ((prompts, beams, guide),) = local.calls
    assert (prompts, beams.width, beams.max_new_tokens, guide) == (["four", "so"], 3, 9, None)
    assert heard.notes == ["m@beam:3: 2 prompts"]
    named = list[str]()

    def judge(name: str, place: Any) -> Any:
        named.append(name)
        return SimpleNamespace(guide=lambda tokenizer: ("digest", tokenizer))

    monkeypatch.setattr(module, "parse_judge", judge)
    made.of(Player(model="m", beams=3, guide="reward:r"))
    assert (local.calls[1][2], named) == (("digest", "tokens"), ["reward:r"])


def test_a_player_is_noted_with_its_temperature(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, local = Heard(), Local("a")
    made = book(progress=heard)
    monkeypatch.setattr(made, "_answerer", lambda model: local)
    made.of(Player(model="m", temperature=0.50))
    assert heard.notes == ["m: 2 prompts at temperature 0.5"]
    assert local.calls[0][2] is heard


def test_a_model_is_opened_once_with_its_reasoning_apart(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for other questions; the next model takes its place in memory."""
    opened = list[tuple[str, dict[str, Any]]]()

    def open_one(model: str, resources: Any, **how: Any) -> Local:
        opened.append((model, how))
        return Local(model)

    monkeypatch.setattr(module, "open_answerer", open_one)
    made = book(style="text")
    other = made.on(questions_for(ROWS[:1]))
    for each in (made, other):
        each.of(Player(model="m", temperature=1.0))
    assert opened == [("m", {"chat": "text", "apart": True})]
    assert (len(other.of(Player(model="m", temperature=1.0))), other.how) == (1, made.how)
    other.of(Player(model="n", temperature=1.0))
    made.of(Player(model="m", temperature=0.0))
    assert [model for model, _ in opened] == ["m", "n", "m"]


def test_players_of_one_model_are_drawn_in_a_row(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    made, drawn = book(), list[str]()
    monkeypatch.setattr(made, "of", lambda player: drawn.append(player.name))
    several = [("b", 0.0), ("a", 0.0), ("b", 1.0), ("a", 1.0)]
    made.draw([Player(model=model, temperature=t) for model, t in several])
    assert drawn == [f"{model}@temperature:{t}" for model, t in (("b", 0), ("b", 1), ("a", 0), ("a", 1))]


def prompted(made: AnswerBook, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Prompting("Q: {prompt}", examples=(Task("one", "1", Source("e", 1)),))
    monkeypatch.setattr(made, "_prompting", lambda player, answerer: put)


def test_answers_to_prompts_with_examples_end_at_the_next_one(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation is left as it is."""
    turns = turns_of("5\n\nQ: six")
    made, local, player = book(), Local("4\n\nQ: five 5", turns), Player(model="m", temperature=1.0)
    monkeypatch.setattr(made, "_answerer", lambda model: local)
    assert made.prompts(player) == ["four", "so"]
    prompted(made, monkeypatch)
    assert [c.completion for c in made.of(player)[1]] == ["4", turns]
    asked = [f"Q: one 1\n\nQ: {prompt}" for prompt in ("four", "so")]
    assert made.prompts(player) == local.calls[0][0] == asked
    assert local.calls[0][1].sampling.stop == ("\n\nQ:",)
    assert made.about(player) == {
        "style": "text", "template": "Q: {prompt}", "shots": 1, "examples": ["e:1"], "stop": ["\n\nQ:"],
    }  # fmt: skip


@pytest.mark.parametrize("reads", [True, False])
def test_a_judge_of_the_best_reads_reasoning_if_it_wants(
    book: Book, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads is what wins."""
    made, asked = book(), list[Any]()

    class Last:
        def scores(self, questions: Any, progress: Any) -> list[Any]:
            asked.extend(questions)
            return [[0.0, 1.0] for _ in questions]

    monkeypatch.setattr(made, "_answerer", lambda model: Local(thought("3"), thought("4")))
    monkeypatch.setattr(module, "parse_judge", lambda name, place: SimpleNamespace(with_reasoning=reads))
    monkeypatch.setattr(made, "_judge", lambda reward: Last())
    found = made.of(Player(model="m", best_of=2, reward="reward:r", temperature=1.0))
    assert found == [[Candidate(thought("4"), {})]] * 2
    read = [thought("3"), thought("4")] if reads else ["3", "4"]
    assert [[c.completion for c in q.candidates] for q in asked] == [read] * 2
    assert [replace(q, candidates=()) for q in asked] == [replace(q, candidates=()) for q in questions_for(ROWS)]


def test_the_judge_of_the_best_is_opened_once_with_the_length_of_the_drawing(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[Any]()
    kind = SimpleNamespace(open=lambda how, resources: opened.append(how) or object())
    monkeypatch.setattr(module, "parse_judge", lambda name, place: kind)
    monkeypatch.setattr(module, "open_reward", lambda folder, **how: (folder, how))
    made = book(max_length=77)
    judges = [made._judge("reward:r"), made._judge("reward:r"), made.on([])._judge("reward:r")]
    assert judges == judges[:1] * 3
    (how,) = opened
    assert how.open_reward("r") == ("r", {"max_length": 77})
    assert how.open_ledger() is made._ledger
    assert made._judge("reward:s") is not judges[0]


def test_a_reward_is_checked_with_every_row_before_anything_is_drawn(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = book(), list[Any]()
    kind = SimpleNamespace(
        check=lambda how: seen.append(how.place.where), refuse=lambda truth, where: seen.append((truth, where))
    )
    monkeypatch.setattr(module, "parse_judge", lambda name, place: kind)
    made.check([Player(model="m"), Player(model="m", best_of=2, reward="reward:r")])
    assert seen == [module.BEST_OF.where, ("#### 4", "t.jsonl:1"), (None, "t.jsonl:2")]


def test_a_file_of_answers_may_have_further_columns(book: Book, tmp_path: Path) -> None:
    """As other programs write them; rows without an answer are passed over, and a list gives its first."""
    rows: list[Any] = [
        {"prompt": "four", "completion": "4", "latency": 0.5, "run": "a"},
        {"prompt": "so", "answers": ["mi", "re"], "latency": 0.5}, {"prompt": "so", "answers": []},
    ]  # fmt: skip
    file = tmp_path / "said.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = book(samples=3).of(Player(model=str(file)))
    assert [[(c.completion, c.origin["row"]) for c in several] for several in found] == [[("4", 1)], [("mi", 2)]]
