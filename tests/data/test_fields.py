"""The fields of a row: what each reader makes of every kind of value, and what it says of those it cannot read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from twofold.data.keys import MOST_NAMES
from twofold.data.shapes.fields import Fields, is_number
from twofold.records import Message, Source

ASK, ANSWER = Message("user", "q"), Message("assistant", "a")
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SYSTEM = {"role": "system", "content": "s"}


def fields(file: str = "f.jsonl", **row: Any) -> Fields:
    return Fields(row, Source(file, 3))


def faults(of: Fields) -> list[tuple[str, str]]:
    assert all((f.file, f.row, f.severity) == (of.source.file, 3, "error") and f.remedy for f in of.faults)
    return [(f.field, f.reason) for f in of.faults]


@pytest.mark.parametrize(
    ("value", "read", "reason", "check"),
    [
        ("text", "text", "", ""),
        ("", "", "", ""),
        (CHAT, (ASK, ANSWER), "", ""),
        (CHAT[0], (ASK,), "", ""),
        (tuple(CHAT), (ASK, ANSWER), "", ""),
        (None, None, "is null", "missing field"),
        (3, None, "is a number, not text or a chat", "mistyped field"),
        ({"a": 1}, None, "is an object, not text or a chat", "mistyped field"),
        ([], None, "is a chat without messages", "empty field"),
        ("é\ud800", None, "holds half a character (U+D800) at position 2", "bad UTF-8"),
        ([{"role": "user", "content": "\udc00"}], None, "holds half a character (U+DC00) at position 1", "bad UTF-8"),
    ],
)
def test_a_completion_is_a_text_or_a_chat(value: Any, read: Any, reason: str, check: str) -> None:
    row = fields(x=value)
    assert row.completion("x") == read
    assert [(f.field, f.reason, f.check) for f in row.faults] == ([("x", reason, check)] if reason else [])


def test_a_field_that_is_not_there_is_missing() -> None:
    row = fields()
    assert row.completion("x") is None
    assert [(f.field, f.reason, f.remedy) for f in row.faults] == [("x", "is missing", "fill `x` or remove the row")]


@pytest.mark.parametrize(
    ("value", "file", "read", "reason"),
    [
        (True, "f.jsonl", (True, None), ""),
        (False, "f.jsonl", (False, None), ""),
        ("True", "f.csv", (True, None), ""),
        ("false", "f.csv.gz", (False, None), ""),
        (1, "f.jsonl", (True, None), ""),
        (0.0, "f.jsonl", (False, None), ""),
        (0.5, "f.jsonl", (True, 0.5), ""),
        (0.25, "f.jsonl", (False, 0.75), ""),
        ("0.9", "f.csv", (True, 0.9), ""),
        ("true", "f.jsonl", (False, None), "is text, not true, false or a probability"),
        ("yes", "f.csv", (False, None), "is text, not true, false or a probability"),
        (-1, "f.jsonl", (False, None), "is -1, not true, false or a probability"),
        (math.nan, "f.jsonl", (False, None), "is nan, not true, false or a probability"),
        (None, "f.csv", (False, None), "is null"),
    ],
)
def test_a_label_is_a_truth_or_its_probability(
    value: Any, file: str, read: tuple[bool, float | None], reason: str
) -> None:
    """0.25 for good is bad with probability 0.75."""
    row = fields(file, label=value)
    assert row.label("label") == read
    assert faults(row) == ([("label", reason)] if reason else [])
    assert [f.check for f in row.faults] == (
        [("missing field" if value is None else "mistyped field")] if reason else []
    )


@pytest.mark.parametrize(
    ("value", "file", "read", "reason"),
    [
        (None, "f.jsonl", None, ""), (0, "f.jsonl", 0.0, ""), (2.5, "f.jsonl", 2.5, ""), ("2", "f.csv", 2.0, ""),
        (-1, "f.jsonl", None, "is -1, less than 0"), ("2", "f.jsonl", None, "is text, not a finite number"),
        (math.inf, "f.jsonl", None, "is inf, not a finite number"),
        ("nan", "f.csv", None, "is nan, not a finite number"),
        (True, "f.jsonl", None, "is a boolean, not a finite number"),
        ([1.0], "f.jsonl", None, "is a list, not a finite number"),
    ],
)  # fmt: skip
def test_a_weight_is_a_finite_number_from_0_up(value: Any, file: str, read: float | None, reason: str) -> None:
    row = fields(file, weight=value)
    assert row.weight() == read
    assert faults(row) == ([("weight", reason)] if reason else [])
    assert fields().weight() is None


@pytest.mark.parametrize(
    ("value", "read", "reason"),
    [
        (None, None, ""), (0, 0.0, ""), (1, 1.0, ""), (0.25, 0.25, ""),
        (-0.001, None, "is -0.001, not a probability"), (1.5, None, "is 1.5, not a probability"),
        (True, None, "is a boolean, not a probability"), ("1", None, "is text, not a probability"),
        (10**400, None, "is a number of hundreds of digits, not a probability"),
    ],
)  # fmt: skip
def test_a_probability_is_from_nothing_to_one(value: Any, read: float | None, reason: str) -> None:
    row = fields(probability=value)
    assert row.probability() == read
    assert faults(row) == ([("probability", reason)] if reason else [])


@pytest.mark.parametrize(
    ("value", "read", "reason"),
    [
        (None, None, ""), (0, 0.0, ""), (-2, -2.0, ""), (1e30, 1e30, ""),
        (math.inf, None, "is inf, not a finite number"), (math.nan, None, "is nan, not a finite number"),
        (False, None, "is a boolean, not a finite number"), ([1], None, "is a list, not a finite number"),
        (-(10**400), None, "is a number of hundreds of digits, not a finite number"),
    ],
)  # fmt: skip
def test_a_margin_is_a_finite_number(value: Any, read: float | None, reason: str) -> None:
    row = fields(margin=value)
    assert row.margin() == read
    assert faults(row) == ([("margin", reason)] if reason else [])
    assert (fields().margin(), fields().probability()) == (None, None)
    assert [is_number(v) for v in (0, 1.5, True, "1", None)] == [True, True, False, False, False]


@pytest.mark.parametrize(("text", "reason"), [
    ("a", ""), (" ", "is only white space"), ("", "is empty"), ("\u200b\ufeff", "holds nothing to be seen"),
    ("\u200ba", ""), ("\u00ad \n", "holds nothing to be seen"),
])  # fmt: skip
def test_a_text_must_say_something(text: str, reason: str) -> None:
    row = fields()
    assert row.filled("x", text) == text
    assert faults(row) == ([("x", reason)] if reason else [])


@pytest.mark.parametrize(
    ("row", "chat", "fault"),
    [
        ({"q": "q"}, (ASK,), None),
        ({"q": "q", "more": "m"}, (Message("user", "q\nm"),), None),
        ({"q": "q", "more": None}, (ASK,), None),
        ({"q": "", "more": "m"}, (Message("user", "m"),), None),
        ({"q": "q", "history": [["x", "y"], ("v", "w")]},
         (Message("user", "x"), Message("assistant", "y"), Message("user", "v"), Message("assistant", "w"), ASK), None),
        ({"q": "q", "history": []}, (ASK,), None),
        ({"q": "q", "history": None}, (ASK,), None),
        ({"q": "q", "system": "s"}, (Message("system", "s"), ASK), None),
        ({"q": "q", "system": "s", "history": [["x", "y"]]},
         (Message("system", "s"), Message("user", "x"), Message("assistant", "y"), ASK), None),
        ({"q": CHAT}, None, ("q", "is a chat, not text")),
        ({"q": "q", "more": CHAT}, None, ("more", "is a chat, not text")),
        ({"q": 3}, None, ("q", "is a number, not text or a chat")),
        ({"more": "m"}, None, ("q", "is missing")),
        ({"q": "q", "history": "x"}, None, ("history", "is no list of [question, answer]")),
        ({"q": "q", "history": [["x"]]}, None, ("history", "is no list of [question, answer]")),
        ({"q": "q", "history": [["x", "y", "z"]]}, None, ("history", "is no list of [question, answer]")),
        ({"q": "q", "history": [["x", 3]]}, None, ("history", "is no list of [question, answer]")),
        ({"q": "q", "history": ["xy"]}, None, ("history", "is no list of [question, answer]")),
        ({"q": "q", "system": CHAT}, None, ("system", "is a chat, not text")),
    ],
)  # fmt: skip
def test_what_a_user_asks_is_a_chat(row: dict[str, Any], chat: Any, fault: tuple[str, str] | None) -> None:
    read = Fields(row, Source("f.jsonl", 3))
    assert read.user("q", "more") == chat
    assert faults(read) == ([] if fault is None else [fault])


@pytest.mark.parametrize(
    ("row", "read", "fault"),
    [
        ({"m": CHAT}, ((ASK,), "a"), None),
        ({"m": CHAT[1]}, ((), "a"), None),
        ({"m": CHAT, "system": "s"}, ((Message("system", "s"), ASK), "a"), None),
        ({"m": CHAT, "system": ""}, ((ASK,), "a"), None),
        ({"m": CHAT, "system": None}, ((ASK,), "a"), None),
        ({"m": [SYSTEM, *CHAT], "system": "s"}, ((Message("system", "s"), ASK), "a"), None),
        ({"m": [SYSTEM, *CHAT], "system": "t"}, ((Message("system", "s"), ASK), "a"),
         ("system", "is another system message than the chat's own")),
        ({"m": CHAT, "system": 3}, None, ("system", "is a number, not text or a chat")),
        ({"m": "a"}, None, ("m", "is text, not a chat")),
        ({"m": None}, None, ("m", "is null")),
        ({"m": CHAT[:1]}, None, ("m", "has no assistant turn")),
        ({"m": [*CHAT, CHAT[0]]}, None, ("m", "ends with the user's turn")),
        ({"m": [*CHAT, {"role": "tool", "content": "t"}]}, None, ("m", "ends with the tool's turn")),
        ({"m": [CHAT[0], {"role": "assistant", "content": " "}]}, ((ASK,), " "), ("m", "is only white space")),
    ],
)  # fmt: skip
def test_a_conversation_is_what_comes_before_its_answer(row: dict[str, Any], read: Any, fault: Any) -> None:
    made = Fields(row, Source("f.jsonl", 3))
    assert made.conversation("m") == read
    assert faults(made) == ([] if fault is None else [fault])


TOOL = {"type": "function"}


@pytest.mark.parametrize(
    ("asked", "tools", "read", "reason"),
    [
        ("q", None, "q", ""),
        ("q", [], "q", ""),
        ((ASK,), "[]", (ASK,), ""),
        ((ASK,), [TOOL], (Message("tools", '[{"type": "function"}]'), ASK), ""),
        ((ASK,), '[{"b": 1, "a": "é"}]', (Message("tools", '[{"a": "é", "b": 1}]'), ASK), ""),
        ("q", [TOOL], "q", "need a chat, because no template shows them with a text"),
        ((ASK,), ["a"], (ASK,), "is no list of tool definitions"),
        ((ASK,), TOOL, (ASK,), "is no list of tool definitions"),
        ((ASK,), "[", (ASK,), "is no list of tool definitions"),
        ((ASK,), "[" * 100_000, (ASK,), "is no list of tool definitions"),
        ((ASK,), '[{"type": "function", "type": "function"}]', (ASK,), "is no list of tool definitions"),
    ],
)
def test_tools_stand_before_a_chat(asked: Any, tools: Any, read: Any, reason: str) -> None:
    row = fields()
    assert row.with_tools(asked, tools) == read
    assert faults(row) == ([("tools", reason)] if reason else [])


def test_a_completion_at_fault_is_no_fault_of_the_tools() -> None:
    row = fields(prompt=[{"role": "user", "content": "q"}], chosen=[{"role": "wizard", "content": "a"}], rejected="b")
    prompt, _ = row.turns("prompt", "chosen", "rejected")
    row.with_tools(prompt, [TOOL])
    assert [field for field, _ in faults(row)] == ["chosen"]


SAID = {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("row", "prompt", "texts", "found"),
    [
        ({"p": "q", "a": "x", "b": "y"}, "q", ["x", "y"], []),
        ({"p": CHAT[:1], "a": "x", "b": [SAID]}, (ASK,), ["x", "x"], []),
        ({"p": CHAT[:1], "a": "x", "b": [CHAT[0], SAID]}, (ASK,), ["x", "x"], []),
        ({"p": "q", "a": [CHAT[0], SAID], "b": [CHAT[0], SAID]}, (ASK,), ["x", "x"], []),
        ({"p": "q", "system": "s", "a": "x", "b": "y"}, (Message("system", "s"), ASK), ["x", "y"], []),
        ({"p": "q", "system": "s", "a": [CHAT[0], SAID], "b": "y"}, (Message("system", "s"), ASK), ["x", "y"], []),
        ({"p": "q", "a": [CHAT[0], SAID], "b": "y"}, "q", ["", "y"],
         [("p", "is text, but the completions are chats"), ("a", "begins with a user's turn after the prompt")]),
        ({"p": "z", "a": [CHAT[0], SAID], "b": [CHAT[0], SAID]}, "z", ["", ""],
         [("p", "is text, but the completions are chats"),
          ("a", "begins with a user's turn after the prompt"), ("b", "begins with a user's turn after the prompt")]),
        ({"p": CHAT, "a": "x", "b": "y"}, (ASK, ANSWER), ["x", "y"], [("p", "the prompt ends with an assistant turn")]),
        ({"p": CHAT[:1], "a": CHAT[:1], "b": "y"}, (ASK,), ["", "y"], [("a", "has no assistant turn")]),
        ({"p": CHAT[:1], "a": [CHAT[0]] * 3, "b": "y"}, (ASK,), ["", "y"], [("a", "has no assistant turn")]),
        ({"p": CHAT[:1], "a": [SAID, SAID], "b": " "}, (ASK,), ["", " "],
         [("a", "has two assistant turns in a row"), ("b", "is only white space")]),
        ({"p": CHAT[:1], "a": [SAID, SYSTEM, SAID], "b": [SAID, CHAT[0]]}, (ASK,), ["", ""],
         [("a", "has a turn of the role system after the prompt"), ("b", "ends with the user's turn")]),
        ({"p": 3, "a": "", "b": [SAID]}, "", ["", ""],
         [("p", "is a number, not text or a chat"), ("a", "is empty")]),
        ({"p": "q", "a": None, "b": " "}, "", ["", " "], [("a", "is null"), ("b", "is only white space")]),
    ],
)  # fmt: skip
def test_a_prompt_and_what_follows_it(row: dict[str, Any], prompt: Any, texts: list[str], found: Any) -> None:
    made = Fields(row, Source("f.jsonl", 3))
    assert made.turns("p", "a", "b") == (prompt, texts)
    assert faults(made) == found


@pytest.mark.parametrize(
    ("row", "prompt", "texts", "found"),
    [
        ({"a": [CHAT[0], SAID], "b": CHAT}, (ASK,), ["x", "a"], []),
        ({"a": CHAT, "b": CHAT}, (ASK,), ["a", "a"], []),
        ({"a": [SAID], "b": CHAT}, (), ["x", ""],
         [("a", "shares no prompt messages with `b`"), ("b", "begins with a user's turn after the prompt")]),
        ({"a": "x", "b": "y"}, (), ["x", "y"], [("a", "is text without a prompt")]),
        ({"a": CHAT, "b": "y"}, (ASK,), ["a", "y"], [("b", "is text without a prompt")]),
        ({"a": [*CHAT, CHAT[0], SAID], "b": [*CHAT, SAID]}, (ASK,),
         [(ANSWER, ASK, Message("assistant", "x")), ""], [("b", "has two assistant turns in a row")]),
        ({"a": [SYSTEM, *CHAT], "b": [SYSTEM, {"role": "user", "content": "r"}, SAID]}, (Message("system", "s"),),
         ["", ""], [("a", "shares no user's turn with `b`"), ("a", "begins with a user's turn after the prompt"),
                    ("b", "begins with a user's turn after the prompt")]),
    ],
)  # fmt: skip
def test_without_a_prompt_it_is_what_both_begin_with(row: Any, prompt: Any, texts: list[str], found: Any) -> None:
    made = Fields(row, Source("f.jsonl", 3))
    assert made.turns(None, "a", "b") == (prompt, texts)
    assert faults(made) == found


SYSTEM_TURN, TOOLS_TURN = Message("system", "s"), Message("tools", "[]")


@pytest.mark.parametrize(
    ("before", "repeats"),
    [
        ((), True), ((SYSTEM_TURN,), True), ((TOOLS_TURN,), True), ((TOOLS_TURN, SYSTEM_TURN), True),
        ((Message("user", "p"),), False), ((TOOLS_TURN, Message("user", "p")), False),
        ((TOOLS_TURN, SYSTEM_TURN, SYSTEM_TURN), False),
    ],
)  # fmt: skip
def test_what_a_chat_repeats_may_lack_the_rows_own_system_message_and_tools(before: Any, repeats: bool) -> None:
    row = fields(a=CHAT, b="y")
    assert row.answers((*before, ASK), "p", "a", "b") == ((*before, ASK), ["a" if repeats else "", "y"])
    assert faults(row) == ([] if repeats else [("a", "begins with a user's turn after the prompt")])


def test_unread_keys_are_named_a_dozen_at_most() -> None:
    row = fields()
    row.refuse_unread("", {f"k{n}": 1 for n in range(MOST_NAMES)}, ("k0",))
    assert [f.field for f in row.faults] == [f"k{n}" for n in range(1, MOST_NAMES)]
    row = fields()
    row.refuse_unread("input", {f"k{n}": 1 for n in range(2 * MOST_NAMES + 1)} | {"id": 1, "null": None}, ())
    assert [f.field for f in row.faults] == [*(f"input.k{n}" for n in range(MOST_NAMES)), "input"]
    assert row.faults[-1].reason == "and 13 more keys are filled, and nothing reads them"
    assert {f.check for f in row.faults} == {"unread key"}


def test_a_row_with_parts_of_its_own_shares_what_is_wrong_with_it() -> None:
    row = fields(x="a")
    wider = row.spread({"y": "b"})
    assert (wider.completion("x"), wider.completion("y")) == ("a", "b")
    wider.fault("y", "is odd", "mend it")
    wider.remark("x", "is odd too", "mend it", "odd")
    wider.pass_over("", "is nothing", "none")
    assert [(f.field, f.severity, f.check) for f in row.faults] == [
        ("y", "error", "mistyped field"), ("", "warning", "none"),
    ]  # fmt: skip
    assert [(f.field, f.severity, f.check) for f in row.remarks] == [("x", "warning", "odd")]
    assert row.faults[1].remedy == "the row is passed over"


def test_a_shared_answer_before_another_question_is_not_scored() -> None:
    """Both sides go on with a question of their own: the answer before it is theirs, and no part of what is learnt."""
    turns = [*CHAT, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]
    other = [*CHAT, {"role": "user", "content": "s"}, {"role": "assistant", "content": "c"}]
    row = fields(chosen=turns, rejected=other)
    prompt, completions = row.turns(None, "chosen", "rejected")
    assert (prompt, row.faults) == ((ASK,), [])
    for completion, question, answer in zip(completions, "rs", "bc", strict=True):
        assert completion == (ANSWER, Message("user", question), Message("assistant", answer))
        assert [turn.scored for turn in completion if isinstance(turn, Message)] == [False, None, None]
