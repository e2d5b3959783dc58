"""Users' data, independent of file formats: a prompt and its completions, with their source.

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
    """Where a record was read: file (or hub name) and row, counted from 1 as in editors; row 0 means the whole file."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}" if self.row else self.file


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: `chosen` is better than `rejected` as an answer to `prompt`. `probability` and `margin` may be
    known. With a third answer, `gold`, which is better than both, it is a triple. A record of `weight` 2 counts as the
    record twice; None is 1, here and below."""

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
    """An answer to imitate."""

    prompt: Prompt
    completion: str
    source: Source
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A problem whose answer can be checked. `answer` is the ground truth, with its steps or only its last line."""

    prompt: Prompt
    answer: str
    source: Source


@dataclass(frozen=True, slots=True)
class Ranking:
    """Two or more answers to one prompt, best first. `scores` rate each of them and never increase. `margin` is the
    margin of the better one of any two, `probability` that of the order of two being right."""

    prompt: Prompt
    completions: tuple[str, ...]
    source: Source
    scores: tuple[float, ...] | None = None
    margin: float | None = None
    probability: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer that was rated as good (`desirable`) or bad, without a comparison. The label is right with
    `probability`."""

    prompt: Prompt
    completion: str
    desirable: bool
    source: Source
    probability: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt without an answer, to be answered by a model."""

    prompt: Prompt
    source: Source


Record: TypeAlias = Pair | Demonstration | Task | Ranking | Labelled | Request


@dataclass(frozen=True)
class Candidate:
    """An answer and its origin, as they will be in the row; `truncated` if it did not stop by itself."""

    text: str
    origin: Mapping[str, Any]
    truncated: bool = False


def completion_fields(record: Record) -> tuple[tuple[str, str], ...]:
    """The texts of a record except its prompt, each with the name of its field."""
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
    """A prompt as it is stored in rows."""
    return prompt if isinstance(prompt, str) else [{"role": m.role, "content": m.content} for m in prompt]


def short_name(name: str) -> str:
    """A short name of a model, a file or a judge (`reward:FOLDER`): the last two parts of an absolute path, anything
    else unchanged."""
    kind, colon, path = ("", "", name) if PurePath(name).is_absolute() else name.rpartition(":")
    parts = () if "://" in name or not PurePath(path).is_absolute() else PurePath(path).parts
    return f"{kind}{colon}{'/'.join(parts[-2:])}" if len(parts) > 2 else name


def ranked(rank: int) -> str:
    """The name in messages of the completion at `rank` (0 is the best), counted from 1 like rows."""
    return f"completions[{rank + 1}]"
