"""Fields of a row at the bounds of what they take, with each fault in full."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from twofold.data.shapes.fields import LARGEST, UNSEEN, Fields
from twofold.records import Message, Source

ASK, ANSWER = Message("user", "q"), Message("assistant", "a")
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def fields(file: str = "f.jsonl", **row: Any) -> Fields:
    return Fields(row, Source(file, 3))


def faults(of: Fields) -> list[str]:
    """Each fault in one line, with its file and row."""
    issues = [*of.faults, *of.remarks]
    return [f"{i.where}: {i.reason} → {i.remedy} [{i.severity}: {i.check}]" for i in issues]


NOTHING_SEEN = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2068\u206f\ufeff"


def test_joiners_and_marks_of_direction_are_nothing_to_be_seen() -> None:
    """From U+200B to U+200F, U+202A to U+202E and U+2060 to U+206F, the soft hyphen and the mark of byte order."""
    for letter in NOTHING_SEEN:
        row = fields()
        row.filled("x", letter)
        remedy = "fill `x` or remove the row [error: empty field]"
        assert faults(row) == [f"f.jsonl:3, `x`: holds nothing to be seen → {remedy}"], hex(ord(letter))
    assert len(UNSEEN) == 1 + 5 + 5 + 16 + 1 + len(" \n\t")


@pytest.mark.parametrize("letter", "\u00ac\u00ae\u2010\u2070\ufefe\uff00")
def test_letters_next_to_them_are_seen(letter: str) -> None:
    row = fields()
    assert row.filled("x", letter) == letter
    assert row.filled("x", f"\u200b{letter}\u200b") == f"\u200b{letter}\u200b"
    assert faults(row) == []


@pytest.mark.parametrize("letter", "\u2029\u202f\u205f\u200a")
def test_spaces_next_to_them_are_white_space(letter: str) -> None:
    row = fields()
    row.filled("x", letter)
    assert [fault.reason for fault in row.faults] == ["is only white space"]


WEIGHT = "write a number from 0 up, or remove it [error: mistyped field]"
MARGIN = "write a number, or remove it [error: mistyped field]"
MOST = sys.float_info.max


@pytest.mark.parametrize(
    ("name", "value", "read", "fault"),
    [
        ("weight", 1 / LARGEST, 1 / LARGEST, ""),
        ("weight", 9e-31, None,
         "is 9e-31, which is 0 in single precision → write 0, or a larger number [error: mistyped field]"),
        ("weight", 1e30, 1e30, ""),
        ("weight", 1.001e30, None,
         f"is 1.001e+30, and training in single precision takes numbers up to 1e+30 → {WEIGHT}"),
        ("weight", -1e-40, None, "is -1e-40, less than 0 → write a number from 0 up; to turn a preference around, swap "
                                 "its completions [error: mistyped field]"),
        ("margin", -1e30, -1e30, ""),
        ("margin", -MOST, None,
         f"is -1.79769e+308, and training in single precision takes numbers up to 1e+30 → {MARGIN}"),
        ("margin", int(MOST), None,
         f"is 1.79769e+308, and training in single precision takes numbers up to 1e+30 → {MARGIN}"),
        ("margin", 2 * int(MOST), None, f"is a number of hundreds of digits, not a finite number → {MARGIN}"),
        ("probability", int(MOST), None,
         "is 1.79769e+308, not a probability → write a number from 0 to 1, or remove it [error: mistyped field]"),
        ("probability", 1.0001, None,
         "is 1.0001, not a probability → write a number from 0 to 1, or remove it [error: mistyped field]"),
    ],
)  # fmt: skip
def test_numbers_at_the_bounds_of_single_precision(name: str, value: Any, read: float | None, fault: str) -> None:
    assert LARGEST == 1e30
    row = fields(**{name: value})
    assert getattr(row, name)() == read
    assert faults(row) == ([f"f.jsonl:3, `{name}`: {fault}"] if fault else [])


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.5, (True, 0.5)), (0.499, (False, 0.501)), (0.501, (True, 0.501)), (1.0, (True, None)), (0, (False, None))],
)
def test_a_label_is_true_from_one_half_on(value: float, label: tuple[bool, float | None]) -> None:
    assert fields(label=value).label("label") == label


@pytest.mark.parametrize(
    ("file", "cell", "read"),
    [
        ("f.csv", "2", 2), ("f.csv", "2.0", 2), ("f.csv", "2.5", 2.5), ("f.csv", "x", "x"), ("f.jsonl", "2", "2"),
        ("f.jsonl", 2.0, 2.0), ("f.csv", "true", True),
    ],
)  # fmt: skip
def test_a_verdict_in_a_cell_is_the_whole_number_that_it_spells(file: str, cell: Any, read: Any) -> None:
    value = fields(file, winner=cell).verdict("winner")
    assert (value, type(value)) == (read, type(read))


SPELLED = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("work", "row", "fault"),
    [
        (lambda f: f.conversation("m"), {"m": "text"},
         'is text, not a chat → write it as [{"role": "user", "content": "…"}, …] [error: mistyped field]'),
        (lambda f: f.conversation("m"), {"m": CHAT[:1]},
         "has no assistant turn → end it with one assistant message [error: no assistant turn]"),
        (lambda f: f.conversation("m"), {"m": [*CHAT, CHAT[0]]},
         "ends with the user's turn → end it with one assistant message [error: no assistant turn]"),
        (lambda f: f.completion("m"), {"m": "é\ud800"},
         "holds half a character (U+D800) at position 2 → write the text again from its origin [error: bad UTF-8]"),
        (lambda f: f.completion("m"), {"m": None}, "is null → fill `m` or remove the row [error: missing field]"),
        (lambda f: f.completion("m"), {"m": 3}, "is a number, not text or a chat → write it as text [error: mistyped "
                                                "field]"),
        (lambda f: f.label("m"), {"m": None}, "is null → fill `m` or remove the row [error: missing field]"),
        (lambda f: f.label("m"), {"m": "x"}, "is text, not true, false or a probability → write true for good, false "
                                             "for bad, or a number from 0 to 1 [error: mistyped field]"),
        (lambda f: f.user("m"), {"m": SPELLED}, "is a chat, not text → write it as text [error: mistyped field]"),
        (lambda f: f.turns("m", "a"), {"m": CHAT, "a": "b"},
         "the prompt ends with an assistant turn → end it with a user turn [error: unanswerable prompt]"),
        (lambda f: f.turns("m", "a"), {"m": "z", "a": CHAT[1:]},
         'is text, but the completions are chats → write the prompt as [{"role": "user", "content": "…"}], or the '
         "completions as text [error: mistyped field]"),
        (lambda f: f.turns(None, "m", "a"), {"m": "z", "a": "b"},
         "is text without a prompt → add a `prompt` column [error: mistyped field]"),
        (lambda f: f.turns(None, "m", "a"), {"m": CHAT[1:], "a": CHAT[1:]},
         "shares no prompt messages with `a` → add a `prompt` column [error: mistyped field]"),
    ],
)  # fmt: skip
def test_each_fault_of_a_field_in_full(work: Any, row: dict[str, Any], fault: str) -> None:
    made = fields(**row)
    work(made)
    assert faults(made) == [f"f.jsonl:3, `m`: {fault}"]


AFTER = "after the prompt come the assistant's turns, one at a time, with tools' and users' between them"


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([CHAT[1], CHAT[1]], f"has two assistant turns in a row → {AFTER} [error: no assistant turn]"),
        ([{"role": "system", "content": "s"}, CHAT[1]],
         f"has a turn of the role system after the prompt → {AFTER} [error: no assistant turn]"),
        ([CHAT[1], {"role": "tool", "content": "t"}],
         f"ends with the tool's turn → {AFTER} [error: no assistant turn]"),
        ([{"role": "user", "content": "z"}, CHAT[1]],
         f"begins with a user's turn after the prompt → {AFTER} [error: no assistant turn]"),
        ([{"role": "assistant", "content": "a", "weight": 0}],
         "has no turn that is trained on: the weight of each is 0 → set the weight of a turn to 1, or remove the row "
         "[error: no supervised token]"),
        (CHAT[:1], "has no assistant turn → end it with one assistant message [error: no assistant turn]"),
    ],
)  # fmt: skip
def test_each_fault_of_the_turns_after_a_prompt_in_full(turns: list[Any], fault: str) -> None:
    made = fields(p=[{"role": "user", "content": "q"}], m=turns)
    assert made.turns("p", "m") == ((ASK,), [""])
    assert faults(made) == [f"f.jsonl:3, `m`: {fault}"]


def chat(*texts: str) -> list[dict[str, str]]:
    """Turns of user and assistant; one of a `t` is a tool's."""
    roles = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}
    return [{"role": roles[text[0]], "content": text} for text in texts]


def shown(completion: Any) -> list[tuple[str, bool | None]]:
    if isinstance(completion, str):
        return [(completion, None)]
    return [(turn.content, turn.scored) for turn in completion]


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "better", "worse"),
    [
        (("u", "a1"), ("u", "a2"), "u", [("a1", None)], [("a2", None)]),
        (("u", "a", "u2", "a2"), ("u", "a"), "u", [("a", None), ("u2", None), ("a2", None)], [("a", None)]),
        (("u", "a", "u1", "a1"), ("u", "a", "u2", "a2"), "u",
         [("a", False), ("u1", None), ("a1", None)], [("a", False), ("u2", None), ("a2", None)]),
        (("u", "a", "t1", "a1"), ("u", "a", "t2", "a2"), "u",
         [("a", False), ("t1", None), ("a1", None)], [("a", False), ("t2", None), ("a2", None)]),
        (("u", "a", "t1", "a1"), ("u", "a", "a2"), "u", [("a", False), ("t1", None), ("a1", None)], None),
        (("s", "u", "a", "u1", "a1"), ("s", "u", "a", "u1", "a2"), "s u a u1", [("a1", None)], [("a2", None)]),
    ],
)  # fmt: skip
def test_the_prompt_is_what_both_sides_begin_with_up_to_a_question(
    chosen: Any, rejected: Any, prompt: str, better: Any, worse: Any
) -> None:
    """Where they part at a turn that is not the assistant's, its answer before goes with them and is not scored."""
    made = fields(chosen=chat(*chosen), rejected=chat(*rejected))
    shared, (one, other) = made.turns(None, "chosen", "rejected")
    assert " ".join(turn.content for turn in shared if isinstance(turn, Message)) == prompt
    assert shown(one) == better
    if worse is None:
        assert [(fault.field, fault.reason) for fault in made.faults] == [
            ("rejected", "has two assistant turns in a row")
        ]
    else:
        assert shown(other) == worse
        assert made.faults == []


def test_an_answer_that_no_user_has_before_it_is_no_prompt() -> None:
    made = fields(chosen=chat("a", "u1", "a1"), rejected=chat("a", "u2", "a2"))
    made.turns(None, "chosen", "rejected")
    assert faults(made)[:2] == [
        "f.jsonl:3, `chosen`: shares no user's turn with `rejected` → give both sides the turns that they begin with "
        "[error: no common start]",
        "f.jsonl:3, `chosen`: the prompt ends with an assistant turn → end it with a user turn [error: unanswerable "
        "prompt]",
    ]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"system": 3, "m": CHAT}, "`system`: is a number, not text or a chat → write it as text"),
        ({"system": CHAT, "m": CHAT}, "`system`: is a chat, not text → write it as text"),
        ({"system": "t", "m": [{"role": "system", "content": "s"}, *CHAT]},
         "`system`: is another system message than the chat's own → keep one of them"),
        ({"history": "x", "m": "q"}, '`history`: is no list of [question, answer] → write it as [["…", "…"], …]'),
    ],
)  # fmt: skip
def test_what_comes_before_a_prompt_is_at_fault_in_full(row: dict[str, Any], fault: str) -> None:
    made = fields(**row)
    made.user("m") if "history" in row else made.conversation("m")
    assert faults(made) == [f"f.jsonl:3, {fault} [error: mistyped field]"]


def test_tools_at_fault_are_named_in_full() -> None:
    text, odd = fields(), fields()
    text.with_tools("q", [{"type": "function"}])
    odd.with_tools((ASK,), ["f"])
    assert faults(text) == [
        "f.jsonl:3, `tools`: need a chat, because no template shows them with a text → write the prompt as messages "
        "[error: mistyped field]"
    ]
    assert faults(odd) == [
        'f.jsonl:3, `tools`: is no list of tool definitions → write it as [{"type": "function", "function": {…}}] '
        "[error: mistyped field]"
    ]


@pytest.mark.parametrize(
    ("value", "rounds"), [([["a", "b"]], True), ([["a", "b"], ["c"]], False), ([("a", "b")], True), (["ab"], False)]
)
def test_a_history_is_of_rounds(value: Any, rounds: bool) -> None:
    made = fields(m="q", history=value)
    assert (made.user("m") is not None) is rounds
    assert bool(made.faults) is not rounds


def test_keys_beyond_a_dozen_are_counted() -> None:
    made = fields()
    made.refuse_unread("part", {f"k{n}": 1 for n in range(14)}, ("k0",))
    assert faults(made)[12:] == [
        "f.jsonl:3, `part`: and 1 more keys are filled, and nothing reads them → is this the file that you meant? "
        "[error: unread key]"
    ]
    assert [fault.field for fault in made.faults] == [*(f"part.k{n}" for n in range(1, 13)), "part"]
