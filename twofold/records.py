"""Users' data, independent of file formats: a prompt and its completions, with their source.

A prompt is either plain text or a chat (a tuple of messages). A completion is text, or the turns that follow a chat.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeAlias


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

    def as_row(self) -> dict[str, Any]:
        """As rows write it, with the mark."""
        return self.as_dict() | ({} if self.scored is None else {"weight": int(self.scored)})

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Message:
        """A message again, from `as_dict`."""
        more, content = {key: value for key, value in told.items() if key not in ("role", "content")}, told["content"]
        if not isinstance(content, str):
            more, content = {**more, PARTS: content}, "".join(part.get("text", "") for part in content)
        return cls(told["role"], content, json.dumps(more, ensure_ascii=False) if more else "")


PARTS = "parts"
"""The key of `Message.more` where a content has pictures: its parts in order, texts and pictures."""
CALLS = "tool_calls"
"""The key of `Message.more` with an assistant's calls of tools."""
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


def final_text(completion: Completion) -> str:
    """The text of the last turn: what a verifier checks. A turn that is only a call has an empty one."""
    return completion if isinstance(completion, str) else completion[-1].content


def transcript_of(turns: Prompt | Completion) -> str:
    """A prompt or a completion as one text for people and language models: each part of a turn after its role, with
    reasoning, calls and names. Ids show which of several calls a result answers, and are left out without a result."""
    return turns if isinstance(turns, str) else "\n\n".join(f"[{head}]\n{text}" for head, text in turn_parts(turns))


def turn_parts(turns: tuple[Message, ...]) -> list[tuple[str, str]]:
    """The parts of turns as `transcript_of` shows them: the name of each, and its text."""
    ids = any(turn.role == "tool" for turn in turns)
    return [part for turn in turns for part in _parts(turn, ids=ids)]


def _parts(turn: Message, *, ids: bool) -> Iterator[tuple[str, str]]:
    keys = turn.keys()
    calls, pictures = keys.pop(CALLS, []), turn.pictures
    keys.pop(PARTS, None)
    named = {name: keys.pop(name) for name in ("name", "tool_call_id") if name in keys}
    about = [f"{name} {value}" for name, value in named.items() if ids or name == "name"]
    head = ", ".join([turn.role, *about, *(f"picture {name}" for name in pictures)])
    for key, value in keys.items():
        yield f"{head}, {key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if turn.content or not (keys or calls):
        yield head, turn.content
    for call in calls:
        function = call["function"]
        number = f" {call['id']}" if ids and "id" in call else ""
        yield f"{head}, call{number}", f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False)})"


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
    """A problem whose answer can be checked. `answer` is the ground truth, with its steps or only its last line, or
    rules or tests. `completion` is the answer as a policy has to generate it, where that is not the text of `answer`.
    """

    prompt: Prompt
    answer: str
    source: Source
    completion: Completion | None = None


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
class Steps:
    """A solution in steps. `labels` rate each as right (1), wrong (0) or right with a probability; None is unrated."""

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]
    source: Source
    weight: float | None = None

    @property
    def is_right(self) -> bool:
        """Whether no step is rated as wrong."""
        return all(label is None or label >= RIGHT for label in self.labels)


RIGHT = 0.5
"""A step whose label, or whose probability by a model, is at least this is right."""
STEP_SEPARATOR = "\n"
"""What joins the steps of a solution, by default (data.tokenize.step_separator)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt without an answer, to be answered by a model."""

    prompt: Prompt
    source: Source


Record: TypeAlias = Pair | Demonstration | Task | Ranking | Labelled | Steps | Request


@dataclass(frozen=True)
class Candidate:
    """An answer and its origin, as they will be in the row; `truncated` if it did not stop by itself. `steps` are those
    that its row lists, if it does."""

    completion: Completion
    origin: Mapping[str, Any]
    truncated: bool = False
    steps: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer as people and language models read it. Answers with the same text count once."""
        return transcript_of(self.completion)

    @property
    def is_empty(self) -> bool:
        """Whether its last turn has neither text nor a call."""
        calls = not isinstance(self.completion, str) and CALLS in self.completion[-1].more
        return not calls and not final_text(self.completion).strip()


def completion_fields(record: Record) -> tuple[tuple[str, Completion], ...]:
    """The completions of a record, each with the name of its field."""
    match record:
        case Pair():
            gold = () if record.gold is None else (("gold", record.gold),)
            return ("chosen", record.chosen), ("rejected", record.rejected), *gold
        case Demonstration() | Labelled():
            return (("completion", record.completion),)
        case Task():
            return (("answer", record.answer if record.completion is None else record.completion),)
        case Steps():
            return (("completions", STEP_SEPARATOR.join(record.steps)),)
        case Request():
            return ()
        case Ranking():
            return tuple((ranked(rank), text) for rank, text in enumerate(record.completions))


def shown(turns: Prompt | Completion) -> str | list[dict[str, Any]]:
    """A prompt or a completion as JSON."""
    return turns if isinstance(turns, str) else [message.as_dict() for message in turns]


def unshown(told: Any) -> Completion:
    """A prompt or a completion again, from `shown`."""
    return told if isinstance(told, str) else tuple(map(Message.of, told))


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
