"""The further keys of a message that a chat template may show: tool calls, reasoning, names; and marks of its loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.data.issues import shortened
from twofold.data.json_text import once
from twofold.data.keys import filled, meaning, remedy, unread
from twofold.records import CALLS

REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
"""What templates and servers call the reasoning before an answer."""
TEXTS = (*REASONING, "tool_plan", "name", "tool_call_id")
OLD_CALL = "function_call"
MARKS = ("weight", "loss", "train")
"""Keys by which a row chooses the turns that are trained on: 0 or false leaves a turn out, 1 or true takes it in."""
CARRIED = (*TEXTS, CALLS, OLD_CALL, *MARKS)
ANSWERED = (*REASONING, "tool_plan", CALLS, OLD_CALL)
"""Those of a turn that a model has generated."""
_DEFINITION = ("type", "function", "name", "description", "parameters", "properties", "items", "enum", "required")
_CALL_KEYS = ("type", "index", "name", "arguments", "parameters")
_CALL = '[{"type": "function", "function": {"name": "…", "arguments": {…}}}]'


class Malformed(ValueError):
    """A value that is not a chat: `check`, `reason` and `remedy` of the fault."""

    def __init__(self, reason: str, remedy: str, check: str = "mistyped field") -> None:
        self.reason, self.remedy, self.check = reason, remedy, check
        super().__init__(reason)


def further(item: Mapping[str, Any], role: str, place: str) -> str:
    """The keys of a message besides role and content that a template may show, as JSON; empty without any. `place` is
    what faults call the message. Raises `Malformed`."""
    found: dict[str, Any] = {}
    for key in TEXTS:
        if filled(item.get(key)):
            found[key] = _text(item[key], key, role, place)
    calls, old = (item[key] if filled(item.get(key)) else None for key in (CALLS, OLD_CALL))
    if calls is not None and old is not None and tool_calls(calls, place) != tool_calls([old], place):
        reason = f"{place} has both `{CALLS}` and `{OLD_CALL}`: one of the two would be lost"
        raise Malformed(reason, f"write all calls as `{CALLS}`", "malformed tool call")
    calls = [old] if calls is None and old is not None else calls
    if calls is not None:
        if role != "assistant":
            remedy = 'let the assistant call tools, or name the role "assistant"'
            raise Malformed(f"{place} is the {role}'s turn and calls tools", remedy, "malformed tool call")
        found[CALLS] = tool_calls(calls, place)
    return json.dumps(found, ensure_ascii=False) if found else ""


def mark(item: Mapping[str, Any], role: str, place: str) -> bool | None:
    """Whether a message is marked as trained on; None without a mark. Raises `Malformed`."""
    marks = {key: item[key] for key in MARKS if item.get(key) is not None}
    for key, value in marks.items():
        if isinstance(value, str | list | Mapping) or value not in (0, 1):
            shown = value if isinstance(value, int | float) else "no number"
            raise Malformed(
                f"{place}: its `{key}` is {shown}",
                "write 0 or false for a turn that is not trained on, 1 or true for one that is",
                "mistyped field",
            )
    if len({bool(value) for value in marks.values()}) > 1:
        raise Malformed(f"{place}: its {' and '.join(f'`{k}`' for k in marks)} disagree", "keep one of them")
    marked = bool(next(iter(marks.values()))) if marks else None
    if marked and role != "assistant":
        key = next(iter(marks))
        raise Malformed(f"{place} is the {role}'s turn, and its `{key}` asks to train on it", f"set its `{key}` to 0")
    return marked


def tool_calls(value: Any, place: str) -> list[dict[str, Any]]:
    """Calls of tools in the one form that templates read, with arguments as an object. Raises `Malformed`."""
    listed = _parsed(value) if isinstance(value, str) else value
    listed = [listed] if isinstance(listed, Mapping) else listed
    if not isinstance(listed, list | tuple) or not listed:
        raise Malformed(f"{place}: its `tool_calls` is no list of calls", f"write it as {_CALL}", "malformed tool call")
    return [_call(call, f"{place}: call {number}") for number, call in enumerate(listed, 1)]


def _call(call: Any, place: str) -> dict[str, Any]:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping):
        raise Malformed(f"{place} is no object with a `function`", f"write calls as {_CALL}", "malformed tool call")
    again = [k for k in ("name", "arguments", "parameters") if inner is not call and filled(call.get(k))]
    again += ["parameters"] if filled(inner.get("arguments")) and filled(inner.get("parameters")) else []
    if again:
        reason = f"{place}: its `{again[0]}` is there besides those of its `function`: one of the two would be lost"
        raise Malformed(reason, f"write calls as {_CALL}", "malformed tool call")
    name, arguments = inner.get("name"), inner.get("arguments", inner.get("parameters", {}))
    if not isinstance(name, str) or not name.strip():
        raise Malformed(f"{place} has no `function.name`", f"write calls as {_CALL}", "malformed tool call")
    blank = not (arguments.strip() if isinstance(arguments, str) else filled(arguments))
    read = {} if blank else _parsed(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(read, Mapping):
        raise Malformed(
            f"{place}, of `{shortened(name)}`: its `arguments` are no JSON object",
            'write them as {"city": "…"}, or as such an object in a text',
            "malformed tool call",
        )
    try:
        json.dumps(read, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        what = f"{place}, of `{shortened(name)}`: its `arguments` hold a value that JSON does not have"
        raise Malformed(what, "write NaN, infinity and dates as text or null", "malformed tool call") from None
    if call.get("type", "function") != "function":
        raise Malformed(f"{place} is of another type than `function`", f"write calls as {_CALL}", "malformed tool call")
    for key in (*unread(call, (*_CALL_KEYS, "id", "function")), *unread(inner, (*_CALL_KEYS, "function"))):
        raise Malformed(f"{place}: its key `{shortened(key)}` {meaning(key)}", remedy([key]), "unread key")
    number = {"id": call["id"]} if isinstance(call.get("id"), str) and call["id"] else {}
    return {**number, "type": "function", "function": {"name": name, "arguments": in_one_order(read)}}


def in_one_order(value: Any) -> Any:
    """JSON with the keys of objects in one order, whatever a file's format made of it (Arrow sorts them): those of tool
    definitions as servers write them, then all others by name."""
    if isinstance(value, Mapping):
        first = [key for key in _DEFINITION if key in value]
        return {key: in_one_order(value[key]) for key in (*first, *sorted(value.keys() - set(_DEFINITION)))}
    return [in_one_order(inner) for inner in value] if isinstance(value, list | tuple) else value


def _parsed(text: str) -> Any:
    """JSON in a text; None where it is none."""
    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


def _text(value: Any, key: str, role: str, place: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{place}: its `{key}` is no text", f"write `{key}` as text, or leave it out")
    if key in REASONING and role != "assistant":
        raise Malformed(
            f"{place} is the {role}'s turn and holds `{key}`", "reasoning belongs to the assistant", "misplaced key"
        )
    if key == "tool_call_id" and role != "tool":
        raise Malformed(
            f"{place} is the {role}'s turn and answers a call by `{key}`", 'name the role "tool"', "misplaced key"
        )
    return value


def refuse_lost_answers(turns: Sequence[tuple[str, str]]) -> None:
    """Raise `Malformed` for a tool turn that answers by `tool_call_id` none of the calls before it, where calls have
    ids. `turns` are roles and further keys."""
    ids = set[str]()
    for number, (role, more) in enumerate(turns, 1):
        keys: dict[str, Any] = json.loads(more) if more else {}
        ids.update(call["id"] for call in keys.get(CALLS, ()) if "id" in call)
        answered = keys.get("tool_call_id")
        if role == "tool" and answered is not None and ids and answered not in ids:
            reason = f"message {number}: its `tool_call_id` `{shortened(answered)}` is the id of no call before it"
            raise Malformed(reason, "name the id of the call that it answers", "malformed tool call")
