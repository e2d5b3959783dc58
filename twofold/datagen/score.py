"""Adds a judge's scores to a file of rows: one for each completion of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twofold.client.server import RetrySettings
from twofold.data.formats import read
from twofold.data.readers import rows
from twofold.data.reading import Reading
from twofold.data.shapes import is_unjudged
from twofold.errors import DataError
from twofold.judges.base import JudgeResources, Scores
from twofold.judges.questions import Question, questions_of
from twofold.judges.registry import SCORE, ledger_path, parse_judge
from twofold.ledger import Ledger, write_rows
from twofold.progress import Progress
from twofold.records import Candidate, Labelled, Pair, Ranking, Record, Steps, Task, completion_fields
from twofold.rewards.execution import Execution
from twofold.settings import require, settings

if TYPE_CHECKING:
    from twofold.judges.base import OpenReward
    from twofold.judges.steps import ProcessJudge, StepScores

SINGLE, SEVERAL = "score", "reward_scores"


@settings
class ScoreSettings:
    """The judge, and the settings of requests to servers."""

    judge: str
    """KIND[:ARGUMENT] (docs/judges.md)."""
    rubric: str | None = None
    """A jinja2 file with the judge's instructions."""
    retry: RetrySettings = field(default_factory=RetrySettings)
    steps: bool = False
    """Also store the score of each step, by a judge that rates steps."""
    execution: Execution = field(default_factory=Execution)
    """Permissions of a judge that runs a model's programs. By default, it runs none."""

    def __post_init__(self) -> None:
        kind = parse_judge(self.judge, SCORE)
        require(self.rubric is None or kind.asks_server, "a rubric goes with llm and llm-score")
        require(not self.steps or kind.rates_steps, f"{kind.name} rates no steps: name process:FOLDER")


@dataclass(frozen=True)
class Entry:
    """A row's completions as a judge sees them.

    `fields` name the scores: one for each completion, or one list for all. `levels` rank the completions by the row (0
    is best). Those of a labeled completion are compared with others of its prompt. None if the row has no ranking.
    A row that compares counts `weight` times, and its order is right with `probability`. `labels` are those of the
    steps of its only completion.
    """

    question: Question
    fields: tuple[str, ...]
    levels: tuple[float, ...] | None = None
    task: bool = False
    weight: float = 1.0
    probability: float = 1.0
    labels: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class ScoredFile:
    """Entries with their scores, None for an entry without a verdict. Every row names the `judge`. `steps` are the
    scores of the steps of each entry's completions, if they were asked for."""

    entries: list[Entry]
    scores: Scores
    judge: Mapping[str, Any]
    steps: StepScores | None = None

    @property
    def missing(self) -> int:
        return sum(score is None for score in self.scores)

    def known(self) -> list[tuple[Entry, list[float]]]:
        """The entries that have scores, with them."""
        return [(e, s) for e, s in zip(self.entries, self.scores, strict=True) if s is not None]


def score(
    source: str,
    how: ScoreSettings,
    out: Path,
    open_reward: OpenReward,
    progress: Progress,
    reading: Reading | None = None,
) -> ScoredFile:
    """Write the rows of `source` with their scores to `out`, in one step at the end. Rows without a verdict are left
    out.

    Requests to a language model are stored next to `out`, and none is sent twice. Raises DataError for a row that the
    judge cannot score. `reading` sets how `source` is read.
    """
    return score_entries(source, entries_of(reading or Reading(source)), how, out, open_reward, progress)


def score_entries(
    source: str, entries: list[Entry], how: ScoreSettings, out: Path, open_reward: OpenReward, progress: Progress
) -> ScoredFile:
    """Like `score`, for some entries of `source`."""
    _refuse(entries, how)
    with ExitStack() as stack:

        def open_ledger() -> Ledger:
            return stack.enter_context(Ledger(ledger_path(out)))

        resources = JudgeResources(SCORE, open_ledger, open_reward, how.rubric, how.retry, how.execution)
        judge = parse_judge(how.judge, SCORE).open(resources, stack)
        questions, steps = [e.question for e in entries], None
        if how.steps:
            steps = cast("ProcessJudge", judge).steps(questions, progress)
            scores = cast("ProcessJudge", judge).totals(steps)
        else:
            scores = judge.scores(questions, progress)
        scored = ScoredFile(entries, scores, judge.provenance, steps)
    write_rows(out, _scored_rows(source, scored))
    return scored


def scores_of(entries: list[Entry], rows: Iterable[Mapping[str, Any]]) -> ScoredFile:
    """The scores in `rows`, which were written for all `entries`."""
    scores: list[list[float] | None] = []
    steps: list[Any] = []
    judge: Mapping[str, Any] = {}
    for entry, row in zip(entries, rows, strict=True):
        listed, names = entry.fields == (SEVERAL,), [*map(step_field, entry.fields)]
        scores.append(row[SEVERAL] if listed else [row[name] for name in entry.fields])
        if names[0] in row:
            steps.append(row[names[0]] if listed else [row[name] for name in names])
        judge = row["scored_by"]
    return ScoredFile(entries, scores, judge, steps or None)


def step_field(name: str) -> str:
    """The name of the scores of steps next to that of scores of completions."""
    return f"{name.removesuffix('s').removesuffix('score')}step_scores"


def entries_of(reading: Reading) -> list[Entry]:
    """Rows of any shape that training reads, or of a prompt with `answers` in no order."""
    source = reading.source
    first = next((row for _, row in rows(source) if isinstance(row, dict)), {})
    if is_unjudged(first) and not reading.columns:
        return [Entry(q, (SEVERAL,)) for q in questions_of(source, ignore=reading.ignore, whole=True)]
    records = read(replace(reading, whole=True)).records
    truths = {n: row.get("answer") for n, row in rows(source) if isinstance(row, dict) and "answer" in row}
    return [_entry(record, truths.get(record.source.row)) for record in records]


def _entry(record: Record, truth: Any) -> Entry:
    answer = truth if isinstance(truth, str) and not _is_bare(record) else None
    origin = {"row": record.source.row}
    steps = record.steps if isinstance(record, Steps) else ()
    several = tuple(Candidate(told, {**origin, "field": name}, steps=steps) for name, told in completion_fields(record))
    question = Question(record.prompt, record.source, answer, several)
    match record:
        case Pair():
            names = [name for name, _ in completion_fields(record)]
            levels = (1.0, 2.0, 0.0)[: len(names)]
            return _counting(Entry(question, tuple(f"{name}_score" for name in names), levels), record)
        case Ranking():
            levels = tuple(-s for s in record.scores or range(0, -len(several), -1))
            return _counting(Entry(question, (SEVERAL,), levels), record)
        case Labelled():
            return Entry(question, (SINGLE,), (float(not record.desirable),))
        case Steps():
            return Entry(question, (SINGLE,), labels=record.labels)
        case _:
            return Entry(question, (SINGLE,), task=_is_bare(record))


def _is_bare(record: Record) -> bool:
    """Whether it is a problem whose only answer is what a verifier would check."""
    return isinstance(record, Task) and record.completion is None


def _counting(entry: Entry, record: Pair | Ranking) -> Entry:
    weight, probability = record.weight, record.probability
    return replace(
        entry, weight=1.0 if weight is None else weight, probability=1.0 if probability is None else probability
    )


def _refuse(entries: Sequence[Entry], how: ScoreSettings) -> None:
    """Refuse rows that no judge, or not this one, can score, before a model is loaded or anything is paid for."""
    kind = parse_judge(how.judge, SCORE)
    for entry in entries:
        where = str(entry.question.source)
        if not entry.question.candidates:
            remedy = "sample answers first: twofold data build --judge human"
            raise DataError("is a prompt without an answer to score", where=where, remedy=remedy)
        if entry.task and kind.needs_truth:
            remedy = "sample completions first: twofold data build"
            raise DataError("is a problem with its answer, and no completion to verify", where=where, remedy=remedy)
        if kind.gives == "shares" and len(entry.question.candidates) < 2:
            remedy = "llm compares; llm-score:URL#NAME scores one answer"
            raise DataError("has one completion, and nothing to compare it with", where=where, remedy=remedy)


def _scored_rows(source: str, scored: ScoredFile) -> Iterator[dict[str, Any]]:
    """The rows of the source as they are, each with its scores and its judge."""
    named = {
        entry.question.source.row: _named(entry.fields, scores) | _named([*map(step_field, entry.fields)], steps)
        for entry, scores, steps in zip(scored.entries, scored.scores, scored.steps or repeat(()), strict=False)
        if scores is not None
    }
    for number, row in rows(source):
        if number in named and isinstance(row, dict):
            yield {**row, **named[number], "scored_by": dict(scored.judge)}


def _named(fields: Sequence[str], scores: Sequence[Any]) -> dict[str, Any]:
    """The scores of a row's completions by the names of their fields; one list for all where the row has one field."""
    if not scores:
        return {}
    listed = fields[0] in (SEVERAL, step_field(SEVERAL))
    return {fields[0]: scores} if listed else dict(zip(fields, scores, strict=True))
