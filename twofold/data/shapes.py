"""The shapes in which people keep rows, told apart by their keys. A new shape is a function and a line in `SHAPES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.data import chat
from twofold.data.chat import Chat, Malformed
from twofold.data.faults import Fault, nearest, quoted
from twofold.records import Demonstration, Labelled, Message, Pair, Prompt, Ranking, Record, Source, Task, ranked


class Fields:
    """The fields of one row. What is wrong with them is collected in `faults`, so that a check shows all of it at once;
    a record made of a row with faults must not be used."""

    def __init__(self, row: Mapping[str, Any], source: Source) -> None:
        self.row, self.source = row, source
        self.faults: list[Fault] = []

    def fault(self, field: str, reason: str, remedy: str, check: str = "mistyped field") -> None:
        """Note what is wrong with `field`."""
        self.faults.append(Fault(self.source.file, self.source.row, field, reason, remedy, check=check))

    def turns(self, prompt: str | None, *completions: str) -> tuple[Prompt, list[str]]:
        """The prompt of the row and its completions; without a prompt field, it is what the completions share."""
        asked = self._value(prompt) if prompt else ()
        said = [self._value(c) for c in completions]
        if asked is None or any(s is None for s in said):
            return "", [
                self._filled(c, s) if isinstance(s, str) else "" for c, s in zip(completions, said, strict=True)
            ]
        conversations = [s for s in said if isinstance(s, tuple)]
        shared = chat.common_prefix(conversations) if conversations else ()
        if isinstance(asked, str) and conversations:
            asked = self._as_chat(prompt or "", asked, shared, len(conversations) == len(said))
        elif prompt is None:
            asked = self._implicit(completions, said, shared)
        if isinstance(asked, tuple) and asked and asked[-1].role == "assistant":
            reason = "the prompt ends with an assistant turn"
            self.fault(prompt or completions[0], reason, "end it with a user turn", "unanswerable prompt")
        return asked, [self._completion(c, s, asked) for c, s in zip(completions, said, strict=True)]

    def _value(self, field: str) -> str | Chat | None:
        value = self.row.get(field)
        if value is None:
            reason = "is null" if field in self.row else "is missing"
            self.fault(field, reason, f"fill `{field}` or remove the row", "missing field")
            return None
        if isinstance(value, str):
            return value if self._encodable(field, value) else None
        if not isinstance(value, list | tuple):
            self.fault(field, f"is {chat.kind(value)}, not text or a chat", "write it as text")
            return None
        try:
            messages = chat.parse(value)
        except Malformed as error:
            self.fault(field, error.reason, error.remedy, error.check)
            return None
        return messages if all(self._encodable(field, m.content) for m in messages) else None

    def _encodable(self, field: str, text: str) -> bool:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            reason = f"holds half a character (U+{ord(text[error.start]):04X}) at position {error.start + 1}"
            self.fault(field, reason, "write the text again from its origin", "bad UTF-8")
            return False
        return True

    def _as_chat(self, field: str, asked: str, shared: Chat, complete: bool) -> Prompt:
        """A text prompt beside chats is their last question, or it does not fit them."""
        if complete and shared and shared[-1] == Message("user", asked):
            return shared
        remedy = 'write the prompt as [{"role": "user", "content": "…"}], or the completions as text'
        self.fault(field, "is text, but the completions are chats", remedy)
        return asked

    def _implicit(self, fields: Sequence[str], said: Sequence[Any], shared: Chat) -> Prompt:
        texts = [f for f, s in zip(fields, said, strict=True) if isinstance(s, str)]
        if texts:
            self.fault(texts[0], "is text without a prompt", "add a `prompt` column")
        elif not shared:
            self.fault(fields[0], f"shares no prompt messages with {quoted(fields[1:])}", "add a `prompt` column")
        return shared

    def _completion(self, field: str, said: str | Chat | None, asked: Prompt) -> str:
        text = self._answer(field, said, asked) if isinstance(said, tuple) else said
        return "" if text is None else self._filled(field, text)

    def _filled(self, field: str, text: str) -> str:
        if not text.strip():
            reason = "is only white space" if text else "is empty"
            self.fault(field, reason, f"fill `{field}` or remove the row", "empty field")
        return text

    def _answer(self, field: str, said: Chat, asked: Prompt) -> str | None:
        """The one assistant turn that follows the prompt, whether or not the chat repeats the prompt."""
        rest = said[len(asked) :] if isinstance(asked, tuple) and said[: len(asked)] == asked else said
        if len(rest) == 1 and rest[0].role == "assistant":
            return rest[0].content
        if any(m.role == "assistant" for m in rest):
            reason = f"has {len(rest)} messages after the prompt, not one assistant turn"
            self.fault(field, reason, "move the earlier ones into the prompt", "no assistant turn")
        else:
            self.fault(field, "has no assistant turn", "end it with one assistant message", "no assistant turn")
        return None


@dataclass(frozen=True)
class Shape:
    """A way to keep rows: the keys that tell it, how a row of it becomes a record, and keys that it may also have."""

    name: str
    keys: tuple[str, ...]
    parse: Callable[[Fields], Record]
    optional: tuple[str, ...] = ()


def _preference(row: Fields) -> Pair:
    prompt, (chosen, rejected) = row.turns("prompt", "chosen", "rejected")
    return Pair(prompt, chosen, rejected, row.source, _probability(row), _margin(row))


def _implicit_preference(row: Fields) -> Pair:
    prompt, (chosen, rejected) = row.turns(None, "chosen", "rejected")
    return Pair(prompt, chosen, rejected, row.source, _probability(row), _margin(row))


def _probability(row: Fields) -> float | None:
    """How likely chosen is to win against rejected, where the row says so."""
    value = row.row.get("probability")
    if value is None:
        return None
    if _is_number(value) and 0 <= value <= 1:
        return float(value)
    what = f"{value:g}" if _is_number(value) else chat.kind(value)
    row.fault("probability", f"is {what}, not a probability", "write a number from 0 to 1, or remove it")
    return None


def _margin(row: Fields) -> float | None:
    """By how much the better is better, where the row says so."""
    value = row.row.get("margin")
    if value is None or (_is_number(value) and math.isfinite(value)):
        return None if value is None else float(value)
    what = f"{value:g}" if _is_number(value) else chat.kind(value)
    row.fault("margin", f"is {what}, not a finite number", "write a number, or remove it")
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _demonstration(row: Fields) -> Demonstration:
    prompt, (completion,) = row.turns("prompt", "completion")
    if row.row.get("label", "") is None:
        row.fault("label", "is null", "fill `label` or remove the column", "missing field")
    elif "label" in row.row:
        reason = "marks completions as good or bad, but the rows before it are demonstrations, all worth imitating"
        row.fault("label", reason, "label every row, or keep the good ones and remove the column", "mistyped field")
    return Demonstration(prompt, completion, row.source)


def _labelled(row: Fields) -> Labelled:
    prompt, (completion,) = row.turns("prompt", "completion")
    label = row.row["label"]
    if label is None:
        row.fault("label", "is null", "fill `label` or remove the row", "missing field")
    elif not isinstance(label, bool):
        row.fault("label", f"is {chat.kind(label)}, not true or false", "write true for good and false for bad")
    return Labelled(prompt, completion, label is True, row.source)


def _ranking(row: Fields) -> Ranking:
    """Each completion is read as a field of its own, so that a fault names which it is."""
    completions = row.row["completions"]
    if not isinstance(completions, list | tuple):
        reason = "is null" if completions is None else f"is {chat.kind(completions)}, not a list of completions"
        row.fault("completions", reason, "list the completions, best first")
        return Ranking("", (), row.source)
    if len(completions) < 2:
        reason = f"has {len(completions)} completions: nothing to rank"
        row.fault("completions", reason, "list two or more, best first", "nothing to rank")
    named = {ranked(rank): completion for rank, completion in enumerate(completions)}
    spread = Fields({**row.row, **named}, row.source)
    prompt, texts = spread.turns("prompt", *named)
    row.faults += spread.faults
    return Ranking(prompt, tuple(texts), row.source, _scores(row, len(texts)), _margin(row))


def _scores(row: Fields, count: int) -> tuple[float, ...] | None:
    """The scores of a row's completions, where it has any. They must not rise: order and scores say one thing."""
    scores = row.row.get("scores")
    if scores is None:
        return None
    if not isinstance(scores, list | tuple) or len(scores) != count:
        has = f"has {len(scores)} scores" if isinstance(scores, list | tuple) else f"is {chat.kind(scores)}"
        row.fault("scores", f"{has}, not one for each of {count} completions", "list one number for each completion")
        return None
    for rank, score in enumerate(scores):
        field = f"scores[{rank + 1}]"
        if not (_is_number(score) and math.isfinite(score)):
            what = f"{score:g}" if _is_number(score) else chat.kind(score)
            row.fault(field, f"is {what}, not a finite number", "write a number, or remove the row")
            return None
        if rank and score > scores[rank - 1]:
            reason = f"is {score:g}, above the {scores[rank - 1]:g} before it, and completions stand best first"
            row.fault(field, reason, "list completions and scores by falling score", "order against scores")
    return tuple(map(float, scores))


def _task(row: Fields) -> Task:
    prompt, (answer,) = row.turns("prompt", "answer")
    return Task(prompt, answer, row.source)


def _question(row: Fields) -> Task:
    prompt, (answer,) = row.turns("question", "answer")
    return Task(prompt, answer, row.source)


SHAPES = (
    Shape("prompt + chosen + rejected", ("prompt", "chosen", "rejected"), _preference, ("probability", "margin")),
    Shape("prompt + completions (best first)", ("prompt", "completions"), _ranking, ("scores", "margin")),
    Shape("prompt + completion + label", ("prompt", "completion", "label"), _labelled),
    Shape("prompt + completion", ("prompt", "completion"), _demonstration),
    Shape("prompt + answer", ("prompt", "answer"), _task),
    Shape("question + answer", ("question", "answer"), _question),
    Shape("chosen + rejected (shared prompt)", ("chosen", "rejected"), _implicit_preference, ("probability", "margin")),
)
FIELDS = tuple(dict.fromkeys(key for shape in SHAPES for key in (*shape.keys, *shape.optional)))


def detect(row: Mapping[str, Any]) -> Shape | None:
    """The first shape whose keys the row has; one whose keys are all filled goes before one with nulls."""
    fitting = [s for s in SHAPES if all(k in row for k in s.keys)]
    filled = [s for s in fitting if all(row[k] is not None for k in s.keys)]
    return next(iter([*filled, *fitting]), None)


def parse(shape: Shape, row: Mapping[str, Any], source: Source) -> Record | list[Fault]:
    """The record that the row is under `shape`, or everything that is wrong with it."""
    missing = [k for k in shape.keys if k not in row]
    other = detect(row) if missing else None
    if other is not None:
        reason = f"has the shape {other.name}, but the rows before it {shape.name}"
        return [Fault(source.file, source.row, "", reason, "keep one shape per file", check="mixed formats")]
    if missing:
        return [_missing(key, shape, row, source) for key in missing]
    fields = Fields(row, source)
    record = shape.parse(fields)
    return fields.faults or record


def unknown(row: Mapping[str, Any], source: Source) -> Fault:
    """The fault of a row that fits no shape: the keys seen, the nearest ones, the shapes known."""
    closest = max(SHAPES, key=lambda s: _closeness(s, row))
    hints = [hint for key in closest.keys if key not in row and (hint := _hint(key, closest, row))]
    known = "known shapes: " + "; ".join(s.name for s in SHAPES)
    mapping = "" if hints else "; name yours with `columns`, e.g. columns.prompt=instruction"
    reason = f"no known shape has the columns {quoted(map(str, row)) or '(none)'}"
    return Fault(source.file, source.row, "", reason, " ".join([*hints, known + mapping]), check="unknown shape")


def _closeness(shape: Shape, row: Mapping[str, Any]) -> float:
    near = sum(1.0 if k in row else 0.9 if _lookalike(k, shape, row) else 0.0 for k in shape.keys)
    return near / len(shape.keys) + near / 100


def _missing(key: str, shape: Shape, row: Mapping[str, Any], source: Source) -> Fault:
    remedy = _hint(key, shape, row) or f"the file's shape is {shape.name}: add `{key}` or remove the row"
    reason = f"is missing; the row has {quoted(map(str, row)) or 'no keys'}"
    return Fault(source.file, source.row, key, reason, remedy, check="missing field")


def _hint(key: str, shape: Shape, row: Mapping[str, Any]) -> str:
    near = _lookalike(key, shape, row)
    return f"`{near}`: did you mean `{key}`?" if near else ""


def _lookalike(key: str, shape: Shape, row: Mapping[str, Any]) -> str | None:
    return nearest(key, [str(k) for k in row if k not in shape.keys])
