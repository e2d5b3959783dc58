"""Builds rows: samples answers to questions, judges them, and writes rows. No request is sent twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.client.server import RetrySettings, is_url
from twofold.datagen.rows import Choice, Form, Judged, Row, rows_of, unjudged, worth_judging
from twofold.errors import DataError, RecipeError, ServerError
from twofold.judges.base import Judge, JudgeResources, Scores
from twofold.judges.completions import VerifierKind
from twofold.judges.questions import Question, Questions, read_questions
from twofold.judges.registry import BUILD, ledger_path, parse_judge
from twofold.ledger import Ledger, write_rows
from twofold.progress import Progress
from twofold.records import Candidate, final_text
from twofold.rewards import verifier
from twofold.rewards.execution import Execution
from twofold.sampling.answers import Draw, open_answerer
from twofold.sampling.base import Sampling
from twofold.settings import require, settings

if TYPE_CHECKING:
    from twofold.judges.base import OpenReward

MOST_SAMPLES = 1_000_000


@settings
class BuildSettings:
    """How preference data is made."""

    models: tuple[str, ...] = ()
    """Models that answer: folders, hub names, or https://host/v1#model. None: the answers in the rows are judged."""
    judge: str = "verifier"
    """The judge, as KIND[:ARGUMENT] (docs/judges.md)."""
    samples: int = 4
    """Answers per prompt and model."""
    seed: int = 0
    form: Form = "pairs"
    all_pairs: bool = False
    """Every pair of answers with different scores, not only the best over the worst."""
    gap: float = 0.0
    """Minimum difference of the scores in a pair."""
    threshold: float | None = None
    """Labels: an answer is good from this score on."""
    only_wrong: bool = False
    """With `truth` and stronger: reject only answers that the verifier finds wrong."""
    keep_truncated: bool = False
    """Also take answers that ran out of tokens."""
    rubric: str | None = None
    """A jinja2 file with the judge's instructions."""
    sampling: Sampling = field(default_factory=Sampling)
    retry: RetrySettings = field(default_factory=RetrySettings)
    execution: Execution = field(default_factory=Execution)
    """Permissions of a judge that runs a model's programs. By default, it runs none."""

    def __post_init__(self) -> None:
        require(1 <= self.samples <= MOST_SAMPLES, f"samples must be from 1 to {MOST_SAMPLES}")
        require(0 <= self.gap < math.inf, "gap must be ≥ 0 and finite")
        require(self.threshold is None or math.isfinite(self.threshold), "threshold must be a finite number")
        kind = parse_judge(self.judge, BUILD)
        ordered = kind.gives == "order"
        require(not self.only_wrong or ordered, "only_wrong goes with `truth` and stronger")
        require(self.rubric is None or kind.asks_server, "a rubric goes with llm and llm-score")
        require(bool(self.models) or not ordered, "`truth` and stronger need a model's own answers")
        require(kind.gives != "verdicts" or not kind.argument, "there are no human verdicts yet: write human")
        scored = self.form == "labels" and kind.gives == "scores" and kind.middle is None and self.threshold is None
        require(not scored, f"labels by {kind.name} need a threshold")


@dataclass(frozen=True)
class Estimate:
    """Upper bounds of a build: answers sampled here, and answers and verdicts requested from servers."""

    questions: int
    drawn: int
    requests: int
    verdicts: int


@dataclass(frozen=True)
class Built:
    """The result: the number of rows and of questions that have some, and what was left out, by reason."""

    out: Path
    rows: int
    questions: int
    used: int
    left_out: dict[str, int]
    missing: int


def estimate(questions: Questions, how: BuildSettings) -> Estimate:
    """The upper bounds, including requests that are recorded already."""
    count, kind = len(questions.questions), parse_judge(how.judge, BUILD)
    own = count * how.samples
    served = sum(is_url(model) for model in how.models)
    better = count if "answers" in kind.needs else 0
    drawn = (len(how.models) - served) * own + (0 if is_url(kind.argument) else better)
    asked = served * own + (better if is_url(kind.argument) else 0)
    sizes = [len(q.candidates) if not how.models else len(how.models) * how.samples for q in questions.questions]
    return Estimate(count, drawn, asked, sum(kind.requests(size) for size in sizes))


@dataclass(frozen=True)
class FirstIsBest:
    """1 for the first candidate, which is the better one, and 0 for the others."""

    provenance: dict[str, Any]

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        return [[float(i == 0) for i, _ in enumerate(q.candidates)] for q in questions]


class Builder:
    """One build. `open_reward` loads a reward model by its name."""

    def __init__(self, how: BuildSettings, open_reward: OpenReward, progress: Progress) -> None:
        self.how, self.progress = how, progress
        self._open_reward = open_reward
        self._kind = parse_judge(how.judge, BUILD)
        self._left_out: Counter[str] = Counter()

    def build(self, questions: Questions, out: Path) -> Built:
        """Answer, judge and write. Uses the records next to `out`. `out` is replaced at the end, in one step."""
        self._refuse(questions.questions, out)
        with ExitStack() as resources:
            ledger = resources.enter_context(Ledger(ledger_path(out)))
            judge = None if self._kind.gives == "verdicts" else self._judge(ledger, resources)
            answered = self._answered(questions.questions, ledger, resources)
            known = [q for q in answered if q is not None]
            comparable = [q for q in map(self._usable, known) if self._can_be_judged(q)]
            scores = [None] * len(comparable) if judge is None else judge.scores(comparable, self.progress)
        found = [self._rows(question, score, judge) for question, score in zip(comparable, scores, strict=True)]
        write_rows(out, (row for rows in found for row in rows))
        silent = sum(score is None for score in scores) if judge else 0
        missing = len(answered) - len(known) + silent
        alike = sum(not rows for rows in found) - silent
        if alike:
            self._left_out["prompts whose answers are judged alike"] += alike
        left_out = dict(self._left_out)
        return Built(out, sum(map(len, found)), len(answered), sum(map(bool, found)), left_out, missing)

    def _refuse(self, questions: Sequence[Question], out: Path) -> None:
        """Raise for faults of the request, before a model is loaded or anything is paid for."""
        if out.exists() and not ledger_path(out).exists():
            raise DataError(
                "exists and was not built here", where=str(out), remedy="name another --out, or move it away"
            )
        if not self.how.models and not any(q.candidates for q in questions):
            remedy = "name a --model to answer them, or add `answers` to the rows"
            raise DataError(
                "the rows are prompts without answers to judge", where=questions[0].source.file, remedy=remedy
            )
        for kind in (self._kind, VerifierKind()) if self.how.only_wrong else (self._kind,):
            for question in questions:
                kind.refuse(question.answer, str(question.source))

    def _judge(self, ledger: Ledger, resources: ExitStack) -> Judge:
        if self._kind.gives == "order":
            model = {"model": self._kind.argument} if self._kind.argument else {}
            return FirstIsBest({"kind": self._kind.name, "only_wrong": self.how.only_wrong, **model})
        how = self.how
        with_ledger = JudgeResources(BUILD, lambda: ledger, self._open_reward, how.rubric, how.retry, how.execution)
        return self._kind.open(with_ledger, resources)

    def _answered(self, questions: Sequence[Question], ledger: Ledger, resources: ExitStack) -> list[Question | None]:
        """Each question with all its candidates; with `truth` or stronger, the better one is first. None if some are
        missing."""
        own = [self._answers(m, questions, self.how.samples, (ledger, resources)) for m in self.how.models]
        answered = list(pooled(questions, own))
        drawn = sum(len(q.candidates) + sum(len(part[n] or ()) for part in own) for n, q in enumerate(questions))
        if None not in answered:
            self._left_out["answers that repeat another"] = drawn - sum(len(q.candidates) for q in answered if q)
        if "answers" in self._kind.needs:
            best = self._answers(self._kind.argument, questions, 1, (ledger, resources))
            return [with_best_first(q, b[0]) if q and b else None for q, b in zip(answered, best, strict=True)]
        if self._kind.gives == "order":
            return [q and with_best_first(q, Candidate(truth_of(q), {"answer of": str(q.source)})) for q in answered]
        return answered

    def _answers(
        self, model: str, questions: Sequence[Question], samples: int, tools: tuple[Ledger, ExitStack]
    ) -> list[list[Candidate] | None]:
        ledger, resources = tools
        draw = Draw(self.how.sampling, samples, self.how.seed)
        answerer = open_answerer(model, resources, self.how.retry)
        return answerer.answers([q.prompt for q in questions], draw, ledger, self.progress)

    def _usable(self, question: Question) -> Question:
        """The question without candidates that should not be in a row. They are counted."""
        kept = worth_judging(question.candidates, keep_truncated=self.how.keep_truncated)
        self._left_out["empty or truncated answers"] += len(question.candidates) - len(kept)
        if self._kind.gives == "order" and kept[:1] != question.candidates[:1]:
            return replace(question, candidates=())
        if self.how.only_wrong:
            right = [verifier.judge(final_text(c.completion), truth_of(question)).strict for c in kept]
            if kept and not right[0]:
                self._left_out["prompts whose better answer is wrong"] += 1
                return replace(question, candidates=())
            wrong = tuple(c for c, good in zip(kept[1:], right[1:], strict=True) if not good)
            self._left_out["right answers that need no rejecting"] += len(kept) - 1 - len(wrong)
            kept = (*kept[:1], *wrong)
        return replace(question, candidates=kept)

    def _can_be_judged(self, question: Question) -> bool:
        enough = len(question.candidates) >= (1 if self.how.form == "labels" and self._kind.gives != "verdicts" else 2)
        if not enough:
            self._left_out["prompts with nothing to compare"] += 1
        return enough

    def _rows(self, question: Question, scores: Sequence[float] | None, judge: Judge | None) -> list[Row]:
        if judge is None:
            return [unjudged(question)]
        if scores is None:
            return []
        how = self.how
        choice = Choice(how.form, how.all_pairs, how.gap, how.threshold, self._kind.middle)
        return list(rows_of(Judged(question, tuple(scores), judge.provenance), choice))


def build(questions: Questions, how: BuildSettings, out: Path, open_reward: OpenReward, progress: Progress) -> Built:
    """Make preference data from `questions`, or resume an interrupted run of the same request.

    Raises `ServerError` if answers or verdicts are missing, after it has written everything else.
    """
    built = Builder(how, open_reward, progress).build(questions, out)
    if built.missing:
        what = (
            f"{built.missing} of {built.questions} prompts lack an answer or a verdict; {built.rows} rows were written"
        )
        remedy = "run the same command again: only what is missing is asked for"
        raise ServerError(what, where=str(out), remedy=remedy)
    return built


def pooled(
    questions: Sequence[Question], several: Sequence[Sequence[list[Candidate] | None]]
) -> Iterator[Question | None]:
    """Each question with its own candidates, then those of every model. Equal texts count once. None if some are
    missing."""
    for n, question in enumerate(questions):
        found = [own[n] for own in several]
        if any(part is None for part in found):
            yield None
            continue
        texts: dict[str, Candidate] = {}
        for candidate in (*question.candidates, *(c for part in found if part for c in part)):
            texts.setdefault(candidate.text, candidate)
        yield Question(question.prompt, question.source, question.answer, tuple(texts.values()))


def truth_of(question: Question) -> str:
    assert question.answer is not None, "checked before anything is sampled"
    return question.answer


def with_best_first(question: Question, best: Candidate) -> Question:
    """The question with `best` before its other candidates."""
    others = tuple(c for c in question.candidates if c.text.strip() != best.text.strip())
    return replace(question, candidates=(best, *others))


def read_for(
    how: BuildSettings, source: str, *, split: str = "train", limit: int | None = None, ignore: Collection[str] = ()
) -> Questions:
    """The questions of `source` as `how` requires them, without its keys to `ignore`. Raises `RecipeError` if the model
    to judge is the better one itself."""
    kind = parse_judge(how.judge, BUILD)
    if "answers" in kind.needs and kind.argument in how.models:
        what, remedy = "is also the model that it should be better than", "choose another model, or another judge"
        raise RecipeError(what, where=f"--judge {how.judge}", remedy=remedy)
    return read_questions(source, split=split, limit=limit, with_answers=not how.models, ignore=ignore)
