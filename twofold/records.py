"""Users' data, independent of file formats: a prompt and its completions, with their source.

A prompt is either plain text or a chat (a tuple of messages). A completion is text, or the turns that follow a chat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeAlias

from twofold.errors import DataError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `more` is JSON of its further keys that a template may show (tool calls, reasoning, a name);
    empty without any. `scored` is the row's own mark of whether its tokens are trained on; None without a mark."""

    role: str
    content: str
    more: str = ""
    scored: bool | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """Its whole content as one text."""
        return "\n".join(part for part in (self.content, self.more) if part)

    def keys(self) -> dict[str, Any]:
        """Its further keys."""
        return json.loads(self.more) if self.more else {}

    @property
    def pictures(self) -> list[str]:
        """The names of its pictures."""
        parts = self.keys().get(PARTS, []) if PARTS in self.more else []
        return [part["path"] or "unnamed" for part in parts if part["type"] == "image"]

    def as_dict(self) -> dict[str, Any]:
        """As rows write it, without the mark."""
        more = self.keys()
        return {"role": self.role, "content": more.pop(PARTS, self.content), **more}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Message:
        """A message again, from `as_dict`."""
        more, content = {key: value for key, value in told.items() if key not in ("role", "content")}, told["content"]
        if not isinstance(content, str):
            more, content = {**more, PARTS: content}, "".join(part.get("text", "") for part in content)
        return cls(told["role"], content, json.dumps(more, ensure_ascii=False) if more else "")


PARTS = "parts"
"""The key of `Message.more` where a content has pictures: its parts in order, texts and pictures."""
TOOLS = "tools"
"""The role of a message before all others that holds the definitions of tools, as JSON, for the template to show."""
Prompt: TypeAlias = str | tuple[Message, ...]
Completion: TypeAlias = str | tuple[Message, ...]
"""The text of one assistant turn, or turns that end with an assistant turn: those with more than text, or several."""


def turns_of(completion: Completion) -> tuple[Message, ...]:
    """A completion as turns."""
    return (Message("assistant", completion),) if isinstance(completion, str) else completion


def completion_of(turns: tuple[Message, ...]) -> Completion:
    """Turns as a completion: one assistant turn with only text is its text."""
    plain = len(turns) == 1 and not turns[0].more and turns[0].scored is not False
    return turns[0].content if plain else turns


def text_of(completion: Completion) -> str:
    """The whole content of a completion as one text, to compare or measure."""
    if isinstance(completion, str):
        return completion
    return "\n\n".join(turn.text for turn in completion)


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
    chosen: Completion
    rejected: Completion
    source: Source
    probability: float | None = None
    margin: float | None = None
    gold: Completion | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer to imitate."""

    prompt: Prompt
    completion: Completion
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
    completions: tuple[Completion, ...]
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
    completion: Completion
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


def completion_fields(record: Record) -> tuple[tuple[str, Completion], ...]:
    """The completions of a record, each with the name of its field."""
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


def completion_texts(record: Record) -> tuple[tuple[str, str], ...]:
    """As `completion_fields`, for code that reads only texts. Raises DataError for turns with more than text."""
    return tuple((name, plain_text(told, record.source, name)) for name, told in completion_fields(record))


def plain_text(completion: Completion, source: Source, name: str) -> str:
    """A completion that is text. Raises DataError for one of turns."""
    if isinstance(completion, str):
        return completion
    remedy = "give it rows whose completions are texts; training reads turns"
    what = "holds several turns, tool calls or reasoning, and only texts are read here"
    raise DataError(what, where=f"{source}, `{name}`", remedy=remedy)


def shown(prompt: Prompt) -> str | list[dict[str, Any]]:
    """A prompt as it is stored in rows."""
    return prompt if isinstance(prompt, str) else [message.as_dict() for message in prompt]


def prompt_fields(prompt: Prompt) -> dict[str, Any]:
    """A prompt as fields of a row that can be read again: definitions of tools have a field of their own."""
    if isinstance(prompt, str) or not any(message.role == TOOLS for message in prompt):
        return {"prompt": shown(prompt)}
    tools = [tool for message in prompt if message.role == TOOLS for tool in json.loads(message.content)]
    return {"prompt": shown(tuple(m for m in prompt if m.role != TOOLS)), "tools": tools}


def short_name(name: str) -> str:
    """A short name of a model, a file or a judge (`reward:FOLDER`): the last two parts of an absolute path, anything
    else unchanged."""
    kind, colon, path = ("", "", name) if PurePath(name).is_absolute() else name.rpartition(":")
    parts = () if "://" in name or not PurePath(path).is_absolute() else PurePath(path).parts
    return f"{kind}{colon}{'/'.join(parts[-2:])}" if len(parts) > 2 else name


def ranked(rank: int) -> str:
    """The name in messages of the completion at `rank` (0 is the best), counted from 1 like rows."""
    return f"completions[{rank + 1}]"
