"""Repairs of rows that leave their meaning as it is. Whatever is read well stays as it is.

A new repair is a function in `REPAIRS`. It returns the row itself where it has nothing to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twofold.data.chat import CALLING, ROLES, SHAREGPT, TOOL_ROLES
from twofold.data.differences import common_length
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.keys import filled

_ALIASES = {**SHAREGPT, "prompter": "user", "bot": "assistant", "ai": "assistant", **{role: role for role in ROLES}}
_READ = {"role": {*ROLES, *TOOL_ROLES, *CALLING}, "from": {*ROLES, *TOOL_ROLES, *CALLING, *SHAREGPT}}
"""Names of roles that are read as they are, by the key that holds them."""
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_LONGEST = 300
"""Digits of a number that is read as a whole one; more are beyond any weight."""
_TERMINAL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")
_STRAY = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_WINDOWS = {n: bytes([n]).decode("cp1252") for n in range(0x80, 0xA0) if n not in (0x81, 0x85, 0x8D, 0x8F, 0x90, 0x9D)}
"""C1 controls that only a wrong decoder makes of Windows' quotes and dashes. U+0085 may also be a line end."""
_WORDS = 3
"""Of a prompt that completions repeat by no accident, at least."""
_AROUND, _MOST = 20, 60
"""Letters of an example: before what differs, and in all."""


@dataclass(frozen=True)
class Repaired:
    """How many rows were repaired in one way (files, of what concerns a whole file), and the first of them."""

    count: int
    row: int
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Naming:
    """What the columns of a source are called, and whether its probabilities are percentages."""

    columns: Mapping[str, str]
    percent: bool = False

    def __getitem__(self, field: str) -> str:
        return self.columns.get(field, field)


Repair = Callable[[Row, Naming, Collection[str]], Row]
"""Gets the kinds of faults that the row has."""


def repaired(row: Row, names: Naming, faults: Iterable[Issue]) -> tuple[Row, dict[str, Repaired]]:
    """The row after all repairs, and each kind of them that changed it."""
    kinds, made = {fault.check for fault in faults}, dict[str, Repaired]()
    for kind, repair in REPAIRS.items():
        after = repair(row, names, kinds)
        field = next((key for key in row if row[key] is not (now := after.get(key)) and row[key] != now), None)
        if field is not None:
            made[kind] = Repaired(1, 0, field, *_shown(row[field], after[field]))
            row = after
    return row, made


def is_percent(values: Iterable[Any]) -> bool:
    """Whether all probabilities of a source must be percentages: none of them can be a probability but 0."""
    above = False
    for value in values:
        number = _number(value)
        if isinstance(number, int | float) and not isinstance(number, bool):
            if not (number == 0 or 1 < number <= 100):
                return False
            above = above or number > 1
    return above


def _roles(row: Row, _: Naming, faults: Collection[str]) -> Row:
    """Names of roles by which other tools call user, assistant and tool, and capitals."""
    return _on_chats(row, lambda chat: [_with_role(m) for m in chat]) if "unknown role" in faults else row


def _with_role(message: Mapping[str, Any]) -> Mapping[str, Any]:
    key = "role" if "role" in message else "from"
    role = message[key]
    known = _ALIASES.get(role.strip().lower()) if isinstance(role, str) and role not in _READ[key] else None
    return message if known is None else {**message, key: known}


def _blank_turns(row: Row, _: Naming, faults: Collection[str]) -> Row:
    """Turns at the end of a chat that hold nothing."""

    def without(chat: list[Any]) -> list[Any]:
        while len(chat) > 1 and _is_blank(chat[-1]):
            chat = chat[:-1]
        return chat

    return (
        _on_chats(row, without) if {"no assistant turn", "unanswerable prompt", "mistyped field"} & {*faults} else row
    )


def _is_blank(message: Mapping[str, Any]) -> bool:
    said = [value for key, value in message.items() if key not in ("role", "from")]
    return not any(value.strip() if isinstance(value, str) else filled(value) for value in said)


def _system_turns(row: Row, _: Naming, __: Collection[str]) -> Row:
    """A system turn that is there twice at the start of a chat."""

    def once(chat: list[Any]) -> list[Any]:
        key = "role" if "role" in chat[0] else "from"
        while len(chat) > 1 and chat[0].get(key) == "system" and chat[1] == chat[0]:
            chat = chat[1:]
        return chat

    return _on_chats(row, once)


def _prompt_cut(row: Row, names: Naming, _: Collection[str]) -> Row:
    """A prompt that both sides of a pair begin with: the same tokens on both sides change no margin."""
    prompt, sides = row.get(names["prompt"]), (names["chosen"], names["rejected"])
    said = [row.get(side) for side in sides]
    if not isinstance(prompt, str) or len(prompt.split()) < _WORDS:
        return row
    if not all(isinstance(text, str) and text.startswith(prompt) and text[len(prompt) :].strip() for text in said):
        return row
    return {**row, **{side: row[side][len(prompt) :] for side in sides}}


def _labels(row: Row, names: Naming, faults: Collection[str]) -> Row:
    """Labels that are written as text."""
    if "mistyped field" not in faults:
        return row
    found = {key: v.strip().lower() for key in (names["label"], "kto_tag") if isinstance(v := row.get(key), str)}
    known = {key: _TRUTH[text] for key, text in found.items() if text in _TRUTH}
    return {**row, **known} if known else row


def _numbers(row: Row, names: Naming, faults: Collection[str]) -> Row:
    """Weights, probabilities and margins that are written as text."""
    if "mistyped field" not in faults:
        return row
    texts = {key: row.get(key) for key in (names["weight"], names["probability"], names["margin"])}
    read = {key: _number(text) for key, text in texts.items() if isinstance(text, str)}
    known = {key: number for key, number in read.items() if not isinstance(number, str)}
    return {**row, **known} if known else row


def _percent(row: Row, names: Naming, faults: Collection[str]) -> Row:
    """A probability in percent: with its sign, or where all of the source must be so."""
    key = names["probability"]
    value = row.get(key)
    if "mistyped field" not in faults and not names.percent:
        return row
    sign = isinstance(value, str) and value.strip().endswith("%")
    number = _number(value.strip().removesuffix("%").strip()) if isinstance(value, str) and sign else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= 100:
        return row
    return {**row, key: number / 100} if sign or names.percent else row


def _control_characters(row: Row, _: Naming, faults: Collection[str]) -> Row:
    """Characters that no one types. The mark of a broken decoder (U+FFFD) stays: what was there is lost."""
    return {key: _in_texts(value) for key, value in row.items()} if "control character" in faults else row


def _in_texts(value: Any) -> Any:
    if isinstance(value, str):
        text = _STRAY.sub("", _TERMINAL.sub("", value)).replace("\x0b", "\n").replace("\x0c", "\n")
        return text.translate(_WINDOWS)
    if isinstance(value, Mapping):
        return {key: _in_texts(inner) for key, inner in value.items()}
    return [_in_texts(inner) for inner in value] if isinstance(value, list | tuple) else value


REPAIRS: Mapping[str, Repair] = {
    "control characters removed": _control_characters,
    "names of roles": _roles,
    "blank turns at the end removed": _blank_turns,
    "repeated system turn removed": _system_turns,
    "label as text": _labels,
    "number as text": _numbers,
    "percent": _percent,
    "prompt cut from completions": _prompt_cut,
}


def _on_chats(row: Row, change: Callable[[list[Any]], list[Any]]) -> Row:
    """The row with every chat in it changed, also those in a list of completions."""

    def changed(value: Any) -> Any:
        if not isinstance(value, list | tuple) or not value:
            return value
        if all(isinstance(m, Mapping) and ("role" in m or "from" in m) for m in value):
            return change(list(value))
        return [changed(inner) for inner in value]

    return {key: value if key == "tools" else changed(value) for key, value in row.items()}


def _number(value: Any) -> Any:
    """The number that a text is; anything else as it is."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(text := value.strip()):
        return value
    return int(text) if text.lstrip("+-").isdigit() and len(text) < _LONGEST else float(text)


def _shown(before: Any, after: Any) -> tuple[str, str]:
    """Both where they differ, as JSON."""
    a, b = (json.dumps(value, default=str) for value in (before, after))
    start = max(0, common_length(a, b) - _AROUND)
    return _clipped(a, start), _clipped(b, start)


def _clipped(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + _MOST] + ("…" if len(text) > start + _MOST else "")
