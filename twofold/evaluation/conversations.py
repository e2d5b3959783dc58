"""Conversations of two turns: a player answers the second question after its own first answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twofold.data.issues import Issue
from twofold.data.readers import rows
from twofold.errors import DataError
from twofold.evaluation.player_answers import AnswerBook
from twofold.evaluation.players import Player
from twofold.evaluation.published_rows import MtQuestion, turns_in
from twofold.judges.questions import Question
from twofold.records import Candidate, Message, turns_of

HEATS: Mapping[str, float] = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Temperatures of MT-Bench's categories; the others are greedy."""


@dataclass(frozen=True)
class Conversation:
    """A player's answers to both questions, and how they were made."""

    answers: tuple[Candidate, Candidate]
    temperature: float | None
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


def conversations(book: AnswerBook, questions: Sequence[MtQuestion], player: Player) -> list[Conversation]:
    """One conversation for each question. A file may have MT-Bench's form of answers (`question_id`, `choices`), or
    rows of any format, whose second prompt is the conversation so far."""
    if player.kind == "file" and (told := _published(player.model)) is not None:
        return [_of_file(question, told, player.model) for question in questions]
    groups: dict[Player, list[int]] = {}
    for place, question in enumerate(questions):
        groups.setdefault(player.at(HEATS.get(question.subset, 0.0)), []).append(place)
    found: dict[int, Conversation] = {}
    for asked, places in groups.items():
        some = [questions[place] for place in places]
        opening = [Question((Message("user", str(q.record.prompt)),), q.record.source) for q in some]
        firsts = [several[0] for several in book.on(opening).of(asked)]
        followed = [
            Question((Message("user", str(q.record.prompt)), *turns_of(first.completion), Message("user", q.second)),
                     q.record.source)
            for q, first in zip(some, firsts, strict=True)
        ]  # fmt: skip
        seconds = [several[0] for several in book.on(followed).of(asked)]
        for place, first, second in zip(places, firsts, seconds, strict=True):
            about = {name: value for name, value in first.origin.items() if name not in ("sample", "row", "sampling")}
            found[place] = Conversation((first, second), asked.temperature, {"kind": player.kind, **about})
    return [found[place] for place in range(len(questions))]


def _published(file: str) -> dict[str, tuple[str, str]] | None:
    """Both answers by question_id from a file in MT-Bench's form; None for another form."""
    found: dict[str, tuple[str, str]] = {}
    for number, row in rows(file):
        if isinstance(row, Issue) or "choices" not in row:
            return None
        turns = turns_in(row)
        if turns is None or len(turns) < 2:
            remedy = "rows need question_id and choices with two turns, as FastChat writes them"
            raise DataError("has no two turns in `choices`", where=f"{file}:{number}", remedy=remedy)
        found[str(row.get("question_id"))] = turns[0], turns[1]
    return found


def _of_file(question: MtQuestion, told: Mapping[str, tuple[str, str]], file: str) -> Conversation:
    if question.name not in told:
        what = f"has no answer to question_id {question.name}"
        raise DataError(what, where=file, remedy="add its row, or use --limit")
    first, second = told[question.name]
    origin = {"file": file}
    return Conversation((Candidate(first, origin), Candidate(second, origin)), None, {"kind": "file", **origin})
