"""Prompts and completions as a row, and as a server's request, with all that their messages hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twofold.data.chat import as_request, tools_message
from twofold.data.row_fields import row_fields
from twofold.records import Message

TOOL = {"type": "function", "function": {"name": "add"}}
ASK = (Message("user", "q"),)
CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
CALLING = Message("assistant", "", json.dumps({"tool_calls": CALL}))
SPOKEN = Message("assistant", "b", json.dumps({"tool_calls": CALL}))
TURNS = (Message("assistant", "a", '{"thinking": "t"}', False), Message("user", "more"), Message("assistant", "b"))
AS_ROWS = [
    {"role": "assistant", "content": "a", "thinking": "t", "weight": 0},
    {"role": "user", "content": "more"},
    {"role": "assistant", "content": "b"},
]


@pytest.mark.parametrize(
    ("prompt", "completions", "row"),
    [
        ("p", {"chosen": "a", "rejected": "b"}, {"prompt": "p", "chosen": "a", "rejected": "b"}),
        ("p", {"completions": ["a", "b"]}, {"prompt": "p", "completions": ["a", "b"]}),
        (ASK, {"chosen": "a"}, {"prompt": [{"role": "user", "content": "q"}], "chosen": "a"}),
        ("p", {"chosen": TURNS, "rejected": "b"},
         {"prompt": [{"role": "user", "content": "p"}], "chosen": AS_ROWS,
          "rejected": [{"role": "assistant", "content": "b"}]}),
        ("p", {"completions": ["b", TURNS]},
         {"prompt": [{"role": "user", "content": "p"}],
          "completions": [[{"role": "assistant", "content": "b"}], AS_ROWS]}),
        ((tools_message([TOOL]), *ASK), {"chosen": "a"},
         {"prompt": [{"role": "user", "content": "q"}], "tools": [TOOL], "chosen": "a"}),
        ("p", {}, {"prompt": "p"}),
    ],
)  # fmt: skip
def test_a_row_holds_all_of_its_completions(prompt: Any, completions: dict[str, Any], row: dict[str, Any]) -> None:
    assert row_fields(prompt, **completions) == row


def test_a_request_has_tools_apart_and_arguments_as_text() -> None:
    assert as_request("p") == ("p", {})
    assert as_request(ASK) == ([{"role": "user", "content": "q"}], {})
    turns, more = as_request((tools_message([TOOL, {"b": 1}]), *ASK, CALLING, Message("tool", "3"), SPOKEN))
    assert more == {"tools": [TOOL, {"b": 1}]}
    assert [turn["role"] for turn in turns if isinstance(turn, dict)] == ["user", "assistant", "tool", "assistant"]
    sent: Any = turns
    calls = [{"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
    assert sent[1] == {"role": "assistant", "content": None, "tool_calls": calls}
    assert sent[2] == {"role": "tool", "content": "3"}
    assert sent[3] == {"role": "assistant", "content": "b", "tool_calls": calls}
