"""Prompts of any format to answer or to judge, with a reference answer or with candidates if the rows have them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from twofold.data.issues import Issue, IssueError
from twofold.data.json_rows import Row
from twofold.data.keys import is_meant
from twofold.data.readers import rows
from twofold.data.shapes import Fields, detect, is_unjudged, parse, unknown
from twofold.data.split import prompt_key
from twofold.errors import DataError
from twofold.records import (
    TOOLS,
    Candidate,
    Completion,
    Demonstration,
    Labelled,
    Pair,
    Prompt,
    Ranking,
    Record,
    Request,
    Source,
    Steps,
    Task,
    completion_fields,
)


@dataclass(frozen=True)
class Question:
    """A prompt to be answered. `answer` is its reference answer, `candidates` are completions that the row already
    has."""

    prompt: Prompt
    source: Source
    answer: str | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Questions:
    """The questions of a source; `repeated` counts rows whose prompt occurred before, with nothing new to judge."""

    questions: list[Question] = field(default_factory=list)
    repeated: int = 0


def read_questions(
    source: str,
    *,
    split: str = "train",
    limit: int | None = None,
    with_answers: bool = True,
    ignore: Collection[str] = (),
) -> Questions:
    """Rows of any format that training reads, of only a prompt, or of a prompt with unordered `answers`.

    Without answers each prompt comes once. Raises DataError naming file, row and field of the first fault.
    """
    found: dict[object, Question] = {}
    repeated = 0
    for read in questions_of(source, split, ignore):
        if limit is not None and len(found) >= limit:
            break
        question = read if with_answers else replace(read, candidates=())
        known = tuple(c.completion for c in question.candidates)
        key = (prompt_key(question.prompt), _setting(question.prompt), known)
        repeated += found.setdefault(key, question) is not question
    if not found:
        raise DataError("has no rows", where=source, remedy="check the file and the split")
    return Questions(list(found.values()), repeated)


def questions_of(
    source: str, split: str = "train", ignore: Collection[str] = (), *, whole: bool = False
) -> Iterator[Question]:
    """Every row as a question, without its keys to `ignore`; with `whole`, unknown keys are allowed.

    Raises DataError naming file, row and field of the first fault.
    """
    for number, row in rows(source, split, ignore=ignore):
        if isinstance(row, Issue):
            if row.severity == "error":
                raise IssueError(row)
        elif (question := _question(row, Source(source, number), whole)) is not None:
            yield question


def _question(row: Row, source: Source, whole: bool) -> Question | None:
    """None for a row that is passed over."""
    shape = detect(row)
    if shape is not None and not is_unjudged(row):
        made = parse(shape, row, source, remarks=[], whole=whole)
        if not isinstance(made, list):
            return _of(made, row)
        error = next((fault for fault in made if fault.severity == "error"), None)
        if error is not None:
            raise IssueError(error)
        return None
    if "prompt" not in row:
        raise IssueError(unknown(row, source))
    fields = Fields(row, source)
    answers = row.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(a, str | list) for a in answers):
        fields.fault("answers", "is no list of texts or chats", 'write {"prompt": "…", "answers": ["…", "…"]}')
        answers = []
    turns = {f"answers[{place}]": told for place, told in enumerate(answers, 1) if not isinstance(told, str)}
    prompt, read = fields.spread(turns).turns("prompt", *turns)
    known = [key for key in row if whole and not is_meant(key)]
    fields.refuse_unread("", row, ("prompt", "answers", "system", "tools", *known))
    prompt, chats = fields.with_tools(prompt, row.get("tools")), iter(read)
    if fields.faults:
        raise IssueError(fields.faults[0])
    completions = [told if isinstance(told, str) else next(chats) for told in answers]
    return Question(prompt, source, _truth(row), _known(completions, row, source))


def _of(record: Record, row: Row) -> Question:
    """A record's answers, in the row's order: which of them it prefers does not reach the judge."""
    match record:
        case Task(completion=None):
            return Question(record.prompt, record.source, record.answer)
        case Request():
            return Question(record.prompt, record.source)
        case Pair() | Ranking() | Demonstration() | Labelled() | Steps() | Task():
            known = completion_fields(replace(record, gold=None) if isinstance(record, Pair) else record)
    return Question(record.prompt, record.source, _truth(row), _known([told for _, told in known], row, record.source))


def _setting(prompt: Prompt) -> tuple[str, ...]:
    """What makes another question of the same words: system messages and tools."""
    chat = () if isinstance(prompt, str) else prompt
    return tuple(m.content for m in chat if m.role in ("system", "developer", TOOLS))


def _truth(row: Row) -> str | None:
    """What a row with completions knows of the right answer."""
    truth = row.get("answer")
    return truth if isinstance(truth, str) else None


def _known(completions: Sequence[Completion], row: Row, source: Source) -> tuple[Candidate, ...]:
    told = row.get("provenance")
    origins = told.get("answers") if isinstance(told, dict) else None
    if not isinstance(origins, list) or len(origins) != len(completions):
        origins = [{"file": source.file, "row": source.row, "place": place} for place in range(len(completions))]
    return tuple(Candidate(told, origin) for told, origin in zip(completions, origins, strict=True))
