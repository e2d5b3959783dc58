"""Messages of a chat: each way of writing them, each fault by its message, and a template that is stopped in time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from twofold.data.chat import Malformed, is_message, kind, parse, rendering, tools_message
from twofold.data.time_limit import within
from twofold.errors import ModelError
from twofold.records import Message

EXAMPLE = 'write messages as {"role": "user", "content": "…"}'
CALL = '[{"type": "function", "function": {"name": "…", "arguments": {…}}}]'
PARTS = 'parts that are read are {"type": "text", "text": "…"}: remove the row'


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ({"role": "user", "content": "a"}, ("user", "a")),
        ({"role": "developer", "content": ""}, ("developer", "")),
        ({"from": "human", "value": "a"}, ("user", "a")),
        ({"from": "gpt", "value": "a"}, ("assistant", "a")),
        ({"from": "chatgpt", "value": "a"}, ("assistant", "a")),
        ({"from": "model", "value": "a"}, ("assistant", "a")),
        ({"from": "observation", "value": "a"}, ("tool", "a")),
        ({"from": "system", "value": "a"}, ("system", "a")),
        ({"role": "tool", "content": "a", "from": None, "id": 3, "tool_calls": []}, ("tool", "a")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b",
          "cache_control": {"type": "x"}, "id": 1}]}, ("user", "ab")),
        ({"role": "user", "content": ({"type": "text", "text": ""},)}, ("user", "")),
    ],
)  # fmt: skip
def test_ways_to_write_a_message(message: dict[str, Any], read: tuple[str, str]) -> None:
    assert parse([message]) == (Message(*read),)
    assert is_message(message)


@pytest.mark.parametrize(
    ("message", "reason", "remedy", "check"),
    [
        ("a", "message 2 is text, not an object", EXAMPLE, "mistyped field"),
        ({"role": "user"}, "the content of message 2 is null or missing", EXAMPLE, "mistyped field"),
        ({"from": "human"}, "the content of message 2 is null or missing", EXAMPLE, "mistyped field"),
        ({"x": 1}, "message 2 has the keys `x`, not `role` and `content`", EXAMPLE, "mistyped field"),
        ({"role": "function_call", "content": "a"}, "message 2: its `tool_calls` is no list of calls",
         f"write it as {CALL}", "malformed tool call"),
        ({"role": "user", "content": "a", "tool_calls": [1]}, "message 2 is the user's turn and calls tools",
         'let the assistant call tools, or name the role "assistant"', "malformed tool call"),
        ({"role": "bot", "content": "a"}, "message 2 has the unknown role 'bot'",
         "roles are system, developer, user, assistant, tool", "unknown role"),
        ({"role": "human", "content": "a"}, "message 2 has the unknown role 'human'",
         "roles are system, developer, user, assistant, tool", "unknown role"),
        ({"from": 3, "value": "a"}, "message 2 has the unknown role 'a number'",
         "roles are system, developer, user, assistant, tool", "unknown role"),
        ({"role": "user", "content": 3}, "the content of message 2 is a number, not text", EXAMPLE, "mistyped field"),
        ({"role": "user", "content": []}, "the content of message 2 is a list, not text", EXAMPLE, "mistyped field"),
        ({"role": "user", "content": ["a"]}, "the content of message 2 is a list, not text", EXAMPLE, "mistyped field"),
        ({"role": "user", "content": [{"type": "image"}]},
         "message 2 holds a part of the type `image`: a picture, which is not read", PARTS, "unread part"),
        ({"role": "user", "content": [{"type": "odd", "text": "a"}]}, "message 2 holds a part of the type `odd`", PARTS,
         "unread part"),
        ({"role": "user", "content": [{"text": "a"}]}, "message 2 holds a part without a type", PARTS, "unread part"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "message 2 holds a part of the type `text`", PARTS,
         "unread part"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "mood": 1}]},
         "message 2: the key `mood` of a part is filled, and twofold does not read it",
         "leave it out, or drop it by data.ignore=[mood] (--ignore mood)", "unread key"),
        ({"role": "user", "content": "a", "value": "b", "label": 1},
         "message 2: its key `value` is filled, and twofold does not read it",
         "leave them out, or drop them by data.ignore=[value, label] (--ignore value,label)", "unread key"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_told(message: Any, reason: str, remedy: str, check: str) -> None:
    with pytest.raises(Malformed) as error:
        parse([{"role": "user", "content": "a"}, message])
    assert (error.value.reason, error.value.remedy, error.value.check) == (reason, remedy, check)
    assert str(error.value) == reason


def test_a_chat_without_messages_is_none() -> None:
    with pytest.raises(Malformed) as error:
        parse([])
    assert (error.value.reason, error.value.check) == ("is a chat without messages", "empty field")
    assert Malformed("a", "b").check == "mistyped field"
    assert [is_message(v) for v in ({"role": 1, "content": None}, {"role": 1, "value": 2}, "a", [])] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), (1.5, "a number"), ("a", "text"), ([], "a list"),
     ({}, "an object"), ((1,), "a tuple"), (b"a", "a bytes")],
)  # fmt: skip
def test_values_have_names(value: Any, name: str) -> None:
    assert kind(value) == name


def test_tools_are_rendered_apart_from_the_turns(tokenizer: Any) -> None:
    made = tokenizer("{{ tools | tojson if tools is defined and tools else 'none' }}"
                     "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
                     "{% if add_generation_prompt %}>{% endif %}")  # fmt: skip
    ask = Message("user", "q")
    assert rendering(made, [ask]) == "none[user]q"
    assert rendering(made, [ask], generation_prompt=True) == "none[user]q>"
    tools = tools_message([{"b": 1}, {"a": "é"}])
    assert (tools.role, tools.content) == ("tools", '[{"b": 1}, {"a": "é"}]')
    assert rendering(made, [tools, ask]) == '[{"b": 1}, {"a": "é"}][user]q'


def test_a_template_that_was_stopped_is_not_tried_again(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from twofold.data import chat

    assert chat.TEMPLATE_SECONDS == 5
    monkeypatch.setattr(chat, "TEMPLATE_SECONDS", 0.2)
    made = tokenizer(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{# of test_chats #}"
    )
    for longest in (3.0, 0.1):
        began = time.process_time()
        with pytest.raises(ModelError) as error:
            rendering(made, [Message("user", "a")])
        assert time.process_time() - began < longest
    assert str(error.value).startswith("the chat template: was stopped after 0.2 s over one row\n")
    assert error.value.remedy == "its loops do not end: choose a model with another template"


def test_an_end_comes_to_the_thread_that_is_over_its_time_alone() -> None:
    done: list[Any] = []

    def work(seconds: float) -> None:
        try:
            done.append(within(seconds, lambda: sum(i for i in iter(int, 1))))
        except TimeoutError as error:
            done.append(str(error))

    threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.1, 0.15)]
    for thread in threads:
        thread.start()
    assert within(60, lambda: [t.join() for t in threads]) == [None, None]
    assert sorted(done) == ["took more than 0.1 s", "took more than 0.15 s"]


@pytest.mark.parametrize("further", [{"tool_calls": [{"name": "g"}]}, {"function_call": {"name": "g"}}])
def test_a_turn_that_is_a_call_has_no_further_ones(further: dict[str, Any]) -> None:
    turn = {"role": "function_call", "content": '{"name": "f"}', **further}
    with pytest.raises(Malformed, match="message 1 is a function_call and has further calls: one of the two would be"):
        parse([turn])
