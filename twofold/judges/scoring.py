"""Judges of candidates: whatever they are, each gives every candidate of a question a score, more is better.

A judge of two answers gives the share of matches won: each candidate meets every other one, a tie is half a win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import combinations
from typing import Any, Protocol

from twofold.errors import DataError
from twofold.judges.language_model import Judge as ModelJudge
from twofold.judges.language_model import Match, Orders
from twofold.judges.questions import Question
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import Demonstration, Ranking, Record
from twofold.rewards import verifier
from twofold.rewards.base import Scorer
from twofold.rewards.mathematics import MathVerifier

Scores = list[list[float] | None]
TASK = "judged"


class Judge(Protocol):
    """`told` is its provenance; `middle` the score above which an answer is good, None where scores have no such place.

    `scores` has None for a question that stayed without a verdict.
    """

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    @property
    def middle(self) -> float | None: ...

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores: ...


class ByVerifier:
    """1 for an answer that ends in the ground truth's number, by the verifier's strict or flexible rule, else 0."""

    middle = 0.5

    def __init__(self, metric: verifier.Metric) -> None:
        self.provenance = {"kind": "verifier", "metric": metric}
        self._metric: verifier.Metric = metric

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        for question in questions:
            verifier.answerable(truth_of(question), str(question.source))
        return _each(questions, self._score, progress)

    def _score(self, question: Question, text: str) -> float:
        return float(getattr(verifier.judge(text, truth_of(question)), self._metric))


class ByMathVerifier:
    """1 for an answer that math-verify finds equal to the ground truth, else 0."""

    provenance: Mapping[str, Any] = {"kind": "verifier", "metric": "math"}
    middle = 0.5

    def __init__(self, mathematics: MathVerifier) -> None:
        self._mathematics = mathematics

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        for question in questions:
            truth_of(question)
        before = self._mathematics.timeouts
        found = _each(questions, self._score, progress)
        if late := self._mathematics.timeouts - before:
            seconds = self._mathematics.timeout
            progress.warn(f"{late} comparisons took longer than {seconds:g} s and count as unequal")
        return found

    def _score(self, question: Question, text: str) -> float:
        return float(self._mathematics.right(text, truth_of(question)))


class ByReward:
    """A reward model's score."""

    middle = None

    def __init__(self, name: str, scorer: Scorer) -> None:
        self.provenance = {"kind": "reward", "model": name}
        self._scorer = scorer

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        return [[*scores] for scores in self._scorer.score([_record(q) for q in questions], progress)]


class ByScoringModel:
    """The score from 1 to 10 that a language model gives by a rubric."""

    middle = None

    def __init__(self, judge: ModelJudge, ledger: Ledger) -> None:
        self.provenance = _provenance(judge, "llm-score")
        self._judge, self._ledger = judge, ledger

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        asked = [(n, i) for n, question in enumerate(questions) for i in range(len(question.candidates))]
        heard: dict[tuple[int, int], float | None] = {}
        progress.begin(TASK, len(asked))
        rows = [(questions[n].prompt, questions[n].candidates[i].text, questions[n].answer) for n, i in asked]
        for place, score in self._judge.score(rows, self._ledger):
            heard[asked[place]] = score
            progress.advance(TASK)
        progress.end(TASK)
        return [_whole([heard[n, i] for i in range(len(q.candidates))]) for n, q in enumerate(questions)]


class ByComparingModel:
    """The share of matches that an answer wins before a language model, each match told in both orders."""

    middle = 0.5

    def __init__(self, judge: ModelJudge, ledger: Ledger) -> None:
        self.provenance = _provenance(judge, "llm")
        self._judge, self._ledger = judge, ledger

    def verdicts(self, matches: Sequence[Match]) -> Iterator[tuple[int, Orders]]:
        """What either order of each match was told, as `rewards.judge.Judge.verdicts` has it."""
        return self._judge.verdicts(matches, self._ledger)

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        games = [(n, a, b) for n, q in enumerate(questions) for a, b in combinations(range(len(q.candidates)), 2)]
        matches = [
            Match(q.prompt, q.candidates[a].text, q.candidates[b].text, q.answer)
            for n, a, b in games
            for q in (questions[n],)
        ]
        heard: list[dict[tuple[int, int], float | None]] = [{} for _ in questions]
        progress.begin(TASK, len(matches))
        for place, share in self._judge.compare(matches, self._ledger):
            n, a, b = games[place]
            heard[n][a, b] = share
            progress.advance(TASK)
        progress.end(TASK)
        return [shares(len(q.candidates), heard[n]) for n, q in enumerate(questions)]


class FirstIsBest:
    """1 for the first candidate, 0 for the others: the ground truth, or a stronger model's answer, stands first."""

    middle = 0.5

    def __init__(self, provenance: Mapping[str, Any]) -> None:
        self.provenance = provenance

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        return [[float(i == 0) for i, _ in enumerate(q.candidates)] for q in questions]


def shares(candidates: int, results: Mapping[tuple[int, int], float | None]) -> list[float] | None:
    """The share of its matches that each candidate won; `results[a, b]` is a's share. None where one is missing."""
    if any(share is None for share in results.values()):
        return None
    won = [0.0] * candidates
    for (a, b), share in results.items():
        assert share is not None
        won[a] += share
        won[b] += 1 - share
    return [w / max(1, candidates - 1) for w in won]


def truth_of(question: Question) -> str:
    """The question's ground truth; raises DataError where it has none."""
    if question.answer is None:
        remedy = "rows need an `answer`; or judge with llm:, reward: or human"
        raise DataError("has no answer to compare with", where=str(question.source), remedy=remedy)
    return question.answer


def open_verifier(metric: str, resources: ExitStack) -> ByVerifier | ByMathVerifier:
    """The verifier of a rule's name."""
    if metric == "math":
        return ByMathVerifier(resources.enter_context(MathVerifier()))
    return ByVerifier("flexible" if metric == "flexible" else "strict")


def _record(question: Question) -> Record:
    """The candidates as one row, in no order that means anything."""
    texts = tuple(c.text for c in question.candidates)
    if len(texts) == 1:
        return Demonstration(question.prompt, texts[0], question.source)
    return Ranking(question.prompt, texts, question.source)


def _each(questions: Sequence[Question], score: Callable[[Question, str], float], progress: Progress) -> Scores:
    found: Scores = []
    progress.begin(TASK, len(questions))
    for question in questions:
        found.append([score(question, candidate.text) for candidate in question.candidates])
        progress.advance(TASK)
    progress.end(TASK)
    return found


def _whole(scores: Sequence[float | None]) -> list[float] | None:
    known = [score for score in scores if score is not None]
    return known if len(known) == len(scores) else None


def _provenance(judge: ModelJudge, kind: str) -> dict[str, Any]:
    endpoint = judge.server.endpoint
    return {"kind": kind, "model": endpoint.model, "server": endpoint.url, "rubric": judge.rubric.digest}
