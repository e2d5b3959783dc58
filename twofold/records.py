"""What people bring, after any file format: a prompt and what was said, with the place it came from.

A prompt is either plain text or a chat (a tuple of messages); a completion is text in both cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record was read: file (or hub name) and row, counted from 1 as editors do; 0 where `file` says all."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}" if self.row else self.file


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: `chosen` is better than `rejected` as an answer to `prompt`, if known with what `probability`, and
    by what `margin`; with a third answer, `gold`, that is better than both it is a triple. A record of `weight` 2
    counts as the record twice; None is 1, here and below."""

    prompt: Prompt
    chosen: str
    rejected: str
    source: Source
    probability: float | None = None
    margin: float | None = None
    gold: str | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer worth imitating."""

    prompt: Prompt
    completion: str
    source: Source
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A problem whose answer can be checked: `answer` is the worked ground truth or only its last line."""

    prompt: Prompt
    answer: str
    source: Source


@dataclass(frozen=True, slots=True)
class Ranking:
    """Answers to one prompt, best first; two or more. `scores` say how good each is, and never rise; `margin`, by how
    much the better of any two leads; `probability`, how likely the order of two is right."""

    prompt: Prompt
    completions: tuple[str, ...]
    source: Source
    scores: tuple[float, ...] | None = None
    margin: float | None = None
    probability: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer that someone found good (`desirable`) or bad, compared with no other; that label is right with
    `probability`."""

    prompt: Prompt
    completion: str
    desirable: bool
    source: Source
    probability: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt alone, to be answered by a model."""

    prompt: Prompt
    source: Source


Record: TypeAlias = Pair | Demonstration | Task | Ranking | Labelled | Request


@dataclass(frozen=True)
class Candidate:
    """An answer and where it comes from, as it will stand in the row; `truncated` if it never stopped by itself."""

    text: str
    origin: Mapping[str, Any]
    truncated: bool = False


def completion_fields(record: Record) -> tuple[tuple[str, str], ...]:
    """What a record holds beside its prompt: each text, behind the name of its field."""
    match record:
        case Pair():
            gold = () if record.gold is None else (("gold", record.gold),)
            return ("chosen", record.chosen), ("rejected", record.rejected), *gold
        case Demonstration() | Labelled():
            return (("completion", record.completion),)
        case Task():
            return (("answer", record.answer),)
        case Request():
            return ()
        case Ranking():
            return tuple((ranked(rank), text) for rank, text in enumerate(record.completions))


def shown(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as rows keep it."""
    return prompt if isinstance(prompt, str) else [{"role": m.role, "content": m.content} for m in prompt]


def short_name(name: str) -> str:
    """A model, a file or a judge (`reward:FOLDER`): of an absolute path the last two parts, anything else as it is."""
    kind, colon, path = ("", "", name) if PurePath(name).is_absolute() else name.rpartition(":")
    parts = () if "://" in name or not PurePath(path).is_absolute() else PurePath(path).parts
    return f"{kind}{colon}{'/'.join(parts[-2:])}" if len(parts) > 2 else name


def ranked(rank: int) -> str:
    """What faults call the completion at `rank` (0 is the best), counted from 1 as rows are."""
    return f"completions[{rank + 1}]"
