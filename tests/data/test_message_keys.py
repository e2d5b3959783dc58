"""Further keys of a message by value: what is carried, which turns are trained on, calls in their one form."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from twofold.data.message_keys import Malformed, further, in_one_order, mark, refuse_lost_answers, tool_calls

PLACE = "message 2"
FORM = '[{"type": "function", "function": {"name": "…", "arguments": {…}}}]'
CALL = {"type": "function", "function": {"name": "add", "arguments": {"b": 1, "a": 2}}}
READ = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 1}}}


def refusal(work: Callable[..., object], *arguments: Any) -> tuple[str, str, str]:
    with pytest.raises(Malformed) as refused:
        work(*arguments)
    return refused.value.reason, refused.value.remedy, refused.value.check


@pytest.mark.parametrize(
    ("item", "role", "read"),
    [
        ({"thinking": "t", "name": "n"}, "assistant", {"thinking": "t", "name": "n"}),
        ({"tool_call_id": "x", "name": "n"}, "tool", {"name": "n", "tool_call_id": "x"}),
        ({"tool_plan": "p"}, "user", {"tool_plan": "p"}),
        ({"tool_calls": [CALL], "thought": "é"}, "assistant", {"thought": "é", "tool_calls": [READ]}),
        ({"function_call": CALL["function"]}, "assistant", {"tool_calls": [READ]}),
        ({"tool_calls": [CALL], "function_call": CALL["function"]}, "assistant", {"tool_calls": [READ]}),
        ({"thinking": "", "tool_calls": [], "function_call": None, "odd": 1}, "user", None),
    ],
)
def test_keys_that_a_template_may_show_are_carried(item: dict[str, Any], role: str, read: Any) -> None:
    told = further(item, role, PLACE)
    assert told == (json.dumps(read, ensure_ascii=False) if read else "")


@pytest.mark.parametrize(
    ("item", "role", "refused"),
    [
        ({"thinking": 3}, "assistant",
         ("message 2: its `thinking` is no text", "write `thinking` as text, or leave it out", "mistyped field")),
        ({"reasoning": "t"}, "user",
         ("message 2 is the user's turn and holds `reasoning`", "reasoning belongs to the assistant", "misplaced key")),
        ({"tool_call_id": "x"}, "assistant",
         ("message 2 is the assistant's turn and answers a call by `tool_call_id`", 'name the role "tool"',
          "misplaced key")),
        ({"tool_calls": [CALL]}, "tool",
         ("message 2 is the tool's turn and calls tools", 'let the assistant call tools, or name the role "assistant"',
          "malformed tool call")),
        ({"tool_calls": [CALL], "function_call": {"name": "f"}}, "assistant",
         ("message 2 has both `tool_calls` and `function_call`: one of the two would be lost",
          "write all calls as `tool_calls`", "malformed tool call")),
        ({"tool_calls": 0}, "assistant",
         ("message 2: its `tool_calls` is no list of calls", f"write it as {FORM}", "malformed tool call")),
        ({"reasoning_content": False}, "assistant",
         ("message 2: its `reasoning_content` is no text", "write `reasoning_content` as text, or leave it out",
          "mistyped field")),
    ],
)  # fmt: skip
def test_keys_have_their_roles_and_types(item: dict[str, Any], role: str, refused: tuple[str, str, str]) -> None:
    assert refusal(further, item, role, PLACE) == refused


@pytest.mark.parametrize(
    ("item", "role", "marked"),
    [
        ({}, "assistant", None), ({"train": None}, "assistant", None), ({"weight": 0}, "user", False),
        ({"weight": 0.0}, "assistant", False), ({"loss": True}, "assistant", True), ({"loss": False}, "tool", False),
        ({"weight": 1, "train": True, "loss": 1.0}, "assistant", True), ({"weight": 0, "loss": None}, "system", False),
    ],
)  # fmt: skip
def test_a_mark_says_whether_a_turn_is_trained_on(item: dict[str, Any], role: str, marked: bool | None) -> None:
    assert mark(item, role, PLACE) is marked


MARK = "write 0 or false for a turn that is not trained on, 1 or true for one that is"


@pytest.mark.parametrize(
    ("item", "role", "reason", "remedy"),
    [
        ({"weight": 2}, "assistant", "message 2: its `weight` is 2", MARK),
        ({"weight": 0.5}, "assistant", "message 2: its `weight` is 0.5", MARK),
        ({"weight": "1"}, "assistant", "message 2: its `weight` is no number", MARK),
        ({"loss": [1]}, "assistant", "message 2: its `loss` is no number", MARK),
        ({"weight": 1, "loss": False}, "assistant", "message 2: its `weight` and `loss` disagree", "keep one of them"),
        ({"train": 1}, "user", "message 2 is the user's turn, and its `train` asks to train on it",
         "set its `train` to 0"),
    ],
)  # fmt: skip
def test_a_mark_is_0_or_1(item: dict[str, Any], role: str, reason: str, remedy: str) -> None:
    assert refusal(mark, item, role, PLACE) == (reason, remedy, "mistyped field")


def named(name: str = "f", arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments or {}}}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ([CALL], [READ]), ((CALL, CALL), [READ, READ]), (CALL, [READ]), (json.dumps([CALL]), [READ]),
        (json.dumps(CALL), [READ]), ([{"name": "f", "parameters": {"x": 1}}], [named(arguments={"x": 1})]),
        ([{"function": {"name": "f", "arguments": '{"x": 1}'}}], [named(arguments={"x": 1})]),
        ([{"function": {"name": "f", "arguments": None}}], [named()]),
        ([{"function": {"name": "f", "arguments": ""}}], [named()]),
        ([{"function": {"name": "f"}}], [named()]),
        ([{"id": "c1", "index": 0, "function": {"name": "f"}}], [named(id="c1")]),
        ([{"id": 3, "function": {"name": "f"}}], [named()]),
        ([{"id": "", "function": {"name": "f"}}], [named()]),
    ],
)  # fmt: skip
def test_calls_have_one_form(value: Any, read: list[Any]) -> None:
    found = tool_calls(value, PLACE)
    assert found == read
    assert [list(call["function"]) for call in found] == [["name", "arguments"]] * len(read)


NO_OBJECT = "call 1, of `f`: its `arguments` are no JSON object"


@pytest.mark.parametrize(
    ("value", "reason", "remedy", "check"),
    [
        *((value, "its `tool_calls` is no list of calls", f"write it as {FORM}", "malformed tool call")
          for value in ("x", [], (), 3, "[]", None, "[" * 5_000)),
        ([1], "call 1 is no object with a `function`", f"write calls as {FORM}", "malformed tool call"),
        ([CALL, {"function": 1}], "call 2 is no object with a `function`", f"write calls as {FORM}",
         "malformed tool call"),
        ([{"function": {"name": " "}}], "call 1 has no `function.name`", f"write calls as {FORM}",
         "malformed tool call"),
        ([{"function": {"name": 3}}], "call 1 has no `function.name`", f"write calls as {FORM}", "malformed tool call"),
        *(([{"function": {"name": "f", "arguments": value}}], NO_OBJECT,
           'write them as {"city": "…"}, or as such an object in a text', "malformed tool call")
          for value in ("[1]", "x", [1], '{"a": 1, "a": 2}', '{"a": ' + "[" * 5_000)),
        *(([{"function": {"name": "f", "arguments": value}}],
           "call 1, of `f`: its `arguments` hold a value that JSON does not have",
           "write NaN, infinity and dates as text or null", "malformed tool call")
          for value in ({"a": float("nan")}, '{"a": [Infinity]}', {"a": {"b": date(2026, 1, 1)}}, {"a": b"x"})),
        ([{"type": "code", "function": {"name": "f"}}], "call 1 is of another type than `function`",
         f"write calls as {FORM}", "malformed tool call"),
        *(([call], "call 1: its key `mood` is filled, and twofold does not read it",
           "leave it out, or drop it by data.ignore=[mood] (--ignore mood)", "unread key")
          for call in ({"function": {"name": "f"}, "mood": "x"}, {"function": {"name": "f", "mood": "x"}})),
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused(value: Any, reason: str, remedy: str, check: str) -> None:
    assert refusal(tool_calls, value, PLACE) == (f"message 2: {reason}", remedy, check)


def test_keys_of_objects_have_one_order() -> None:
    told = {"z": 1, "name": 2, "type": 3, "b": [{"y": 1, "description": 2}], "a": ({"d": 1, "c": 2},)}
    assert json.dumps(in_one_order(told)) == (
        '{"type": 3, "name": 2, "a": [{"c": 2, "d": 1}], "b": [{"description": 2, "y": 1}], "z": 1}'
    )
    every = ("type", "function", "name", "description", "parameters", "properties", "items", "enum", "required")
    assert list(in_one_order(dict.fromkeys((*sorted(every), "also")))) == [*every, "also"]


CALLS = json.dumps({"tool_calls": [{"id": "a"}, {"function": {}}, {"id": "c"}]})
ANSWER = {name: json.dumps({"tool_call_id": name}) for name in "abc"}


@pytest.mark.parametrize(
    ("turns", "lost"),
    [
        ([("assistant", CALLS), ("tool", ANSWER["a"]), ("tool", ANSWER["c"])], None),
        ([("assistant", CALLS), ("tool", ANSWER["b"])], 2),
        ([("user", ""), ("assistant", CALLS), ("tool", ""), ("tool", ANSWER["b"])], 4),
        ([("tool", ANSWER["b"])], None),
        ([("assistant", ""), ("tool", ANSWER["b"]), ("assistant", CALLS)], None),
        ([("assistant", CALLS), ("user", ANSWER["b"])], None),
        ([("assistant", CALLS), ("assistant", '{"tool_calls": [{"id": "b"}]}'), ("tool", ANSWER["b"])], None),
    ],
)
def test_a_result_answers_a_call_before_it(turns: list[tuple[str, str]], lost: int | None) -> None:
    if lost is None:
        refuse_lost_answers(turns)
        return
    assert refusal(refuse_lost_answers, turns) == (
        f"message {lost}: its `tool_call_id` `b` is the id of no call before it",
        "name the id of the call that it answers", "malformed tool call",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({**CALL, "arguments": {"c": 3}}, "call 1: its `arguments` is there besides those of its `function`"),
        ({**CALL, "name": "other"}, "call 1: its `name` is there besides those of its `function`"),
        ({"name": "f", "arguments": {"a": 1}, "parameters": {"b": 2}}, "call 1: its `parameters` is there besides"),
        ({"name": "f", "arguments": 0}, "call 1, of `f`: its `arguments` are no JSON object"),
        ({"name": "f", "arguments": False}, "call 1, of `f`: its `arguments` are no JSON object"),
        ({"name": "f", "arguments": "0"}, "call 1, of `f`: its `arguments` are no JSON object"),
        ({"name": "f", "arguments": "{"}, "call 1, of `f`: its `arguments` are no JSON object"),
    ],
)
def test_no_part_of_a_call_is_read_as_less(call: dict[str, Any], reason: str) -> None:
    said, _, check = refusal(tool_calls, [call], PLACE)
    assert (said.startswith(f"{PLACE}: {reason}"), check) == (True, "malformed tool call")


@pytest.mark.parametrize("nothing", [None, "", " ", {}, []])
def test_a_call_may_have_no_arguments(nothing: Any) -> None:
    (call,) = tool_calls([{"name": "f", "arguments": nothing, "parameters": None, "id": ""}], PLACE)
    assert call == {"type": "function", "function": {"name": "f", "arguments": {}}}
