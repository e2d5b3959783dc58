"""Language models behind servers as judges: one scores each completion from 1 to 10, one compares every two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

from twofold.client.server import Endpoint, Server
from twofold.judges.base import Judge, JudgeKind, JudgeResources, MatchResult, Scores
from twofold.judges.language_model import Form, Match, ModelJudge, Rubric, refuse_pictures
from twofold.judges.questions import Question
from twofold.ledger import Ledger
from twofold.progress import Progress

OPTIONAL = ("temperature", "seed")
"""Optional request parameters of a judge: reasoning models accept neither."""


@dataclass(frozen=True)
class ScoringJudge:
    """The score from 1 to 10 of a language model with a rubric that shows the reference answer."""

    model: ModelJudge
    ledger: Ledger

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"kind": ScoringKind.name, **self.model.provenance}

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        for question in questions:
            refuse_pictures(question.prompt, question.source)
        asked = [(q.prompt, c.text, q.answer) for q in questions for c in q.candidates]
        replies = iter(self.model.collected(self.model.score(asked, self.ledger), len(asked), progress))
        self.model.note_spend(progress)
        rows = [[next(replies) for _ in q.candidates] for q in questions]
        return [None if len(known := [s for s in row if s is not None]) < len(row) else known for row in rows]


@dataclass(frozen=True)
class PairwiseJudge:
    """The share of matches that a completion wins with a language model as judge: against every other one, in both
    orders. A tie is half a win; a judge with probabilities gives the mean probability of a win."""

    model: ModelJudge
    ledger: Ledger

    @property
    def provenance(self) -> Mapping[str, Any]:
        kind = PairwiseKind if self.model.rubric.form == "compare" else ProbabilityKind
        return {"kind": kind.name, **self.model.provenance}

    def results(self, matches: Sequence[Match], progress: Progress) -> list[MatchResult | None]:
        """The result of each match, in both orders."""
        return self.model.results(matches, self.ledger, progress)

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        for question in questions:
            refuse_pictures(question.prompt, question.source)
        games = [(n, a, b) for n, q in enumerate(questions) for a, b in combinations(range(len(q.candidates)), 2)]
        matches = [
            Match(q.prompt, q.candidates[a].text, q.candidates[b].text, q.answer)
            for n, a, b in games
            for q in (questions[n],)
        ]
        won = [[0.0] * len(q.candidates) for q in questions]
        open_games: set[int] = set()
        for (n, a, b), result in zip(games, self.results(matches, progress), strict=True):
            if result is None:
                open_games.add(n)
            else:
                share = result.share if result.probability is None else result.probability
                won[n][a] += share
                won[n][b] += 1 - share
        self.model.note_spend(progress)
        return [None if n in open_games else [w / max(1, len(row) - 1) for w in row] for n, row in enumerate(won)]


class ServerKind(JudgeKind):
    """Base of both: an address and a rubric."""

    asks_server = can_read_reasoning = True
    form: ClassVar[Form]

    def check(self, resources: JudgeResources) -> None:
        Endpoint.of(self.argument)
        self._rubric(resources)

    def model(self, resources: JudgeResources, stack: ExitStack) -> ModelJudge:
        optional = OPTIONAL if resources.place.warns else ()
        server = Server(Endpoint.of(self.argument), resources.retry, optional=optional)
        return ModelJudge(stack.enter_context(server), self._rubric(resources))

    def _rubric(self, resources: JudgeResources) -> Rubric:
        return Rubric.load(self.form, Path(resources.rubric) if resources.rubric else None)


class ScoringKind(ServerKind):
    """1 to 10 by a language model"""

    name, usage, form = "llm-score", "llm-score:URL#MODEL", "score"

    def requests(self, candidates: int) -> int:
        return candidates

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        return ScoringJudge(self.model(resources, stack), resources.open_ledger())


class PairwiseKind(ServerKind):
    """the share of its matches with the others that a completion wins before a language model, in both orders"""

    name, usage, form = "llm", "llm:URL#MODEL", "compare"
    gives = "shares"
    middle = 0.5
    refusal = "compares answers and gives no reward; llm-score:URL#MODEL does"

    def requests(self, candidates: int) -> int:
        return candidates * (candidates - 1)

    def open(self, resources: JudgeResources, stack: ExitStack) -> PairwiseJudge:
        return PairwiseJudge(self.model(resources, stack), resources.open_ledger())


class ProbabilityKind(PairwiseKind):
    """the mean probability that a completion is better than the others, by the tokens A and B of a language model"""

    name, usage, form = "llm-prob", "llm-prob:URL#MODEL", "choose"
