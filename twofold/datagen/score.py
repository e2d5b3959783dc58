"""Adds a judge's scores to a file of rows: one for each completion of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from twofold.records import Candidate, Labelled, Pair, Ranking, Record, Task, completion_fields
from twofold.rewards.execution import Execution
from twofold.settings import require, settings

if TYPE_CHECKING:
    from twofold.judges.base import OpenReward

SINGLE, SEVERAL = "score", "reward_scores"


@settings
class ScoreSettings:
    """The judge, and the settings of requests to servers."""

    judge: str
    """KIND[:ARGUMENT] (docs/judges.md)."""
    rubric: str | None = None
    """A jinja2 file with the judge's instructions."""
    retry: RetrySettings = field(default_factory=RetrySettings)
    execution: Execution = field(default_factory=Execution)
    """Permissions of a judge that runs a model's programs. By default, it runs none."""

    def __post_init__(self) -> None:
        kind = parse_judge(self.judge, SCORE)
        require(self.rubric is None or kind.asks_server, "a rubric goes with llm and llm-score")


@dataclass(frozen=True)
class Entry:
    """A row's completions as a judge sees them.

    `fields` name the scores: one for each completion, or one list for all. `levels` rank the completions by the row (0
    is best). Those of a labeled completion are compared with others of its prompt. None if the row has no ranking.
    A row that compares counts `weight` times, and its order is right with `probability`.
    """

    question: Question
    fields: tuple[str, ...]
    levels: tuple[float, ...] | None = None
    task: bool = False
    weight: float = 1.0
    probability: float = 1.0


@dataclass(frozen=True)
class ScoredFile:
    """Entries with their scores, None for an entry without a verdict. Every row names the `judge`."""

    entries: list[Entry]
    scores: Scores
    judge: Mapping[str, Any]

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
        scored = ScoredFile(entries, judge.scores([e.question for e in entries], progress), judge.provenance)
    write_rows(out, _scored_rows(source, scored))
    return scored


def scores_of(entries: list[Entry], rows: Iterable[Mapping[str, Any]]) -> ScoredFile:
    """The scores in `rows`, which were written for all `entries`."""
    scores: list[list[float] | None] = []
    judge: Mapping[str, Any] = {}
    for entry, row in zip(entries, rows, strict=True):
        scores.append(row[SEVERAL] if entry.fields == (SEVERAL,) else [row[name] for name in entry.fields])
        judge = row["scored_by"]
    return ScoredFile(entries, scores, judge)


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
    answer = truth if isinstance(truth, str) and not isinstance(record, Task) else None
    origin = {"row": record.source.row}
    several = tuple(Candidate(told, {**origin, "field": name}) for name, told in completion_fields(record))
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
        case _:
            return Entry(question, (SINGLE,), task=isinstance(record, Task))


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
    known = {entry.question.source.row: (entry, scores) for entry, scores in scored.known()}
    for number, row in rows(source):
        if number in known and isinstance(row, dict):
            entry, scores = known[number]
            listed = entry.fields == (SEVERAL,)
            named = {SEVERAL: scores} if listed else dict(zip(entry.fields, scores, strict=True))
            yield {**row, **named, "scored_by": dict(scored.judge)}
