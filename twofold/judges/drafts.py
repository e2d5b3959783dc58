"""Judges a policy's samples: converts tokens to text and opens the judge that rates or compares them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import Tensor

from twofold.batch import Group
from twofold.errors import DataError
from twofold.judges.base import AnswerOf, DraftResources, Judge, JudgeKind, PromptOf, decoded, same
from twofold.judges.questions import Candidate, Question
from twofold.judges.registry import parse_judge
from twofold.ledger import Ledger
from twofold.progress import Silent
from twofold.records import Prompt, Source
from twofold.rewards.base import Reward
from twofold.rewards.rollouts import DraftScores
from twofold.world import world


def question_of(group: Group, text: Callable[[Tensor], str], prompt: Prompt | None = None, place: int = 0) -> Question:
    """A group as a question whose candidates are its samples. Its prompt is decoded unless the row's own is passed."""
    truth = None if group.truth is None else text(group.truth)
    candidates = tuple(Candidate(text(b.tokens), {}) for b in group.branches)
    return Question(text(group.prompt) if prompt is None else prompt, Source(group.name, place), truth, candidates)


@dataclass(frozen=True)
class JudgedDrafts:
    """A judge of texts as a reward of samples; NaN for a sample without a verdict.

    `against_truth` is for judges that compare: a sample's score is its share of the match with the reference answer.
    `prompt_of` returns a group's prompt by its name, `answer_of` what is checked instead of its reference answer. Only
    one of several processes queries the judge, because a program may not return the same result twice.
    """

    judge: Judge | None
    """None if another process queries it."""
    text: Callable[[Tensor], str]
    against_truth: bool = False
    prompt_of: PromptOf = decoded
    answer_of: AnswerOf = same

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        questions = [question for group in groups for question in self._questions(group)]
        scores = iter(world().once(lambda: self._scores(questions)))
        return [[math.nan if (row := next(scores)) is None else row[0] for _ in g.branches] for g in groups]

    def _scores(self, questions: Sequence[Question]) -> Sequence[Sequence[float] | None]:
        assert self.judge is not None, "the first process has one"
        return self.judge.scores(questions, Silent())

    def _questions(self, group: Group) -> Iterator[Question]:
        whole = question_of(group, self.text, self.prompt_of(group.name))
        for draft in whole.candidates:
            if self.against_truth:
                assert whole.answer is not None, "checked before step 0"
                yield replace(whole, answer=None, candidates=(draft, Candidate(whole.answer, {})))
            else:
                yield replace(whole, answer=self.answer_of(group.name) or whole.answer, candidates=(draft,))


def open_draft_judge(name: str, drafts: DraftResources, stack: ExitStack, problems: Iterable[Group]) -> Reward:
    """Opens the judge of this name for samples of `problems`. Raises DataError for a problem that it cannot judge,
    RecipeError and ModelError for a missing judge."""
    return _open(parse_judge(name, drafts.of_texts.place), drafts, stack, tuple(problems))


def _open(kind: JudgeKind, drafts: DraftResources, stack: ExitStack, problems: Sequence[Group]) -> Reward:
    if kind.members:
        return kind.of_members([_open(member, drafts, stack, problems) for member in kind.members])
    reward = kind.of_tokens(drafts)
    if reward is None:
        with world().agreed():
            judge = kind.open(drafts.of_texts, stack) if world().first else None
        answer_of = drafts.answer_of if kind.needs_truth else same
        reward = JudgedDrafts(judge, drafts.text, kind.gives == "shares", drafts.prompt_of, answer_of)
    for problem in problems if kind.needs_truth else ():
        if (answer := drafts.answer_of(problem.name)) is not None:
            kind.refuse(answer, problem.name)
            continue
        if problem.truth is not None and int(problem.truth[-1]) not in drafts.stop_tokens:
            remedy = "raise data.tokenize.max_length, or set truncation to drop"
            raise DataError("no draft can be verified, the ground truth was cut", where=problem.name, remedy=remedy)
        kind.refuse(None if problem.truth is None else drafts.text(problem.truth), problem.name)
    return reward


class PairJudge(Protocol):
    """`shares`: its numbers are shares of matches won against the prompt's other samples, in [0, 1]; else rewards."""

    @property
    def shares(self) -> bool: ...

    def verdicts(self, groups: Sequence[Group]) -> DraftScores: ...


@dataclass(frozen=True)
class ByServer:
    """A language model on a server, queried in rounds. Each round has its own ledger in `folder`, so that a resumed
    round repeats no request."""

    kind: JudgeKind
    drafts: DraftResources
    folder: Path

    @property
    def shares(self) -> bool:
        return self.kind.gives == "shares"

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        text, prompt_of = self.drafts.text, self.drafts.prompt_of
        questions = [question_of(g, text, prompt_of(g.name), place) for place, g in enumerate(groups)]
        return DraftScores(world().once(lambda: self._scores(questions)))

    def _scores(self, questions: Sequence[Question]) -> Sequence[Sequence[float] | None]:
        asked = [(str(q.source), *(c.text for c in q.candidates)) for q in questions]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        with ExitStack() as stack:
            ledger = stack.enter_context(Ledger(self.folder / f"{digest}.ledger.jsonl"))
            judge = self.kind.open(replace(self.drafts.of_texts, open_ledger=lambda: ledger), stack)
            return judge.scores(questions, Silent())
