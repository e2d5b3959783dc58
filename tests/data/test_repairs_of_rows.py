"""Each repair on one row: what it changes, at the bounds of what it leaves alone, and how a change is shown."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.issues import Issue
from twofold.data.repairs import Naming, Repaired, is_percent, repaired

Row = dict[str, Any]
ASKED, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def mended(row: Row, *checks: str, percent: bool = False, **columns: str) -> tuple[Row, dict[str, Repaired]]:
    faults = [Issue("f", 1, "", "why", "what", check=check) for check in checks]
    return repaired(row, Naming(columns, percent), faults)


@pytest.mark.parametrize(
    ("values", "percent"),
    [
        ([85], True), ([1.5], True), ([100], True), ([100.5], False), ([1], False), ([0.5, 85], False), ([0], False),
        ([], False), ([0, 85], True), ([-1, 85], False), (["85"], True), (["85 %", "x", None, 50], True),
        ([True, False], False), ([True, 2], True), ([1.0, 50], False),
    ],
)  # fmt: skip
def test_percentages_are_above_1_and_up_to_100(values: list[Any], percent: bool) -> None:
    assert is_percent(values) is percent


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2), ("+3", 3), ("-4", -4), ("2.0", 2.0), ("5.", 5.0), (".5", 0.5), ("1e2", 100.0), ("-1E-1", -0.1),
        (" 7 ", 7),
    ],
)  # fmt: skip
def test_numbers_as_text_are_numbers(text: str, number: float) -> None:
    after, made = mended({"weight": text, "other": text}, "mistyped field")
    assert (after, list(made)) == ({"weight": number, "other": text}, ["number as text"])
    assert type(after["weight"]) is type(number)
    assert mended({"weight": text})[0] == {"weight": text}, "without a fault"


@pytest.mark.parametrize("text", ["", "1,5", "two", "1e", ".", "0x1", "1 2", "nan"])
def test_what_is_no_number_stays(text: str) -> None:
    assert mended({"weight": text, "margin": None}, "mistyped field") == ({"weight": text, "margin": None}, {})


@pytest.mark.parametrize(
    ("value", "percent", "after"),
    [
        ("85%", False, 0.85), (" 85 % ", False, 0.85), ("0%", False, 0.0), ("100%", False, 1.0), (85, True, 0.85),
        (0, True, 0.0), (100, True, 1.0), ("100.5%", False, "100.5%"), ("-1%", False, "-1%"), ("x%", False, "x%"),
        (100.5, True, 100.5), (True, True, True), (None, True, None),
    ],
)  # fmt: skip
def test_a_percentage_is_a_probability(value: Any, percent: bool, after: Any) -> None:
    row = {"p": value, "margin": 85}
    assert mended(row, "mistyped field", percent=percent, probability="p")[0] == {"p": after, "margin": 85}


def test_without_a_fault_only_all_of_a_source_is_in_percent() -> None:
    assert mended({"probability": 50}, percent=True)[0] == {"probability": 0.5}
    assert mended({"probability": "50%"})[0] == {"probability": "50%"}
    assert mended({"probability": 50}, "mistyped field")[0] == {"probability": 50}


@pytest.mark.parametrize(("text", "label"), [(" TRUE", True), ("false ", False), ("1", True), ("0", False)])
def test_labels_as_text_are_truths(text: str, label: bool) -> None:
    row = {"good": text, "kto_tag": text, "other": text}
    after, made = mended(row, "mistyped field", label="good")
    assert (after, list(made)) == ({"good": label, "kto_tag": label, "other": text}, ["label as text"])
    assert mended(row, label="good")[0] == row
    assert mended({"label": "yes"}, "mistyped field")[0] == {"label": "yes"}


def test_a_prompt_of_three_words_is_cut() -> None:
    for words, cut in (("a b", False), ("a b c", True)):
        row = {"q": words, "chosen": f"{words} d", "rejected": f"{words} e"}
        after = {"q": words, "chosen": " d", "rejected": " e"} if cut else row
        assert mended(row, prompt="q")[0] == after
    assert mended({"prompt": "a b c", "chosen": "a b c d"})[1] == {}
    assert mended({"prompt": "a b c", "chosen": "a b c d", "rejected": "a b c "})[1] == {}


def test_chats_lose_what_is_blank_at_their_end_and_repeated_at_their_start() -> None:
    blank = {"role": "user", "content": " ", "name": ""}
    named = {"role": "user", "content": " ", "name": "n"}
    chat = [ASKED, SAID, blank, {**SAID, "content": None}]
    assert mended({"messages": chat}, "no assistant turn")[0] == {"messages": [ASKED, SAID]}
    assert mended({"messages": [ASKED, named]}, "no assistant turn")[1] == {}
    assert mended({"messages": [blank]}, "unanswerable prompt")[1] == {}, "one turn is left"
    assert mended({"messages": [blank, blank]}, "mistyped field")[0] == {"messages": [blank]}
    assert mended({"messages": chat}, "another fault")[1] == {}
    assert mended({"m": [SYSTEM, SYSTEM, SYSTEM, ASKED]})[0] == {"m": [SYSTEM, ASKED]}
    assert mended({"m": [SYSTEM, SYSTEM]})[0] == {"m": [SYSTEM]}
    assert mended({"m": [ASKED, ASKED, SYSTEM, SYSTEM]})[1] == {}
    assert mended({"m": ({"from": "system", "value": "s"},) * 2})[0] == {"m": [{"from": "system", "value": "s"}]}
    assert mended({"completions": [[SYSTEM, SYSTEM, ASKED], "text"], "tools": [SYSTEM, SYSTEM]})[0] == {
        "completions": [[SYSTEM, ASKED], "text"], "tools": [SYSTEM, SYSTEM],
    }  # fmt: skip


def test_names_of_roles_are_those_that_are_read() -> None:
    chat = [{"role": name, "content": "x"} for name in ("Human", "prompter", "BOT", "ai", "narrator", "user")]
    after, made = mended({"messages": chat}, "unknown role")
    assert [turn["role"] for turn in after["messages"]] == [
        "user",
        "user",
        "assistant",
        "assistant",
        "narrator",
        "user",
    ]
    assert list(made) == ["names of roles"]
    assert mended({"messages": chat})[1] == {}
    asked = [{"from": "human", "value": "x"}, {"from": "Human", "value": "x"}, {"from": "ipython", "value": "x"}]
    assert [turn["from"] for turn in mended({"c": asked}, "unknown role")[0]["c"]] == ["human", "user", "ipython"]


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("a\x00b", "ab"), ("a\x08b\x0eb\x1fb\x7fb", "abbbb"), ("a\tb\nc\rd", "a\tb\nc\rd"), ("a\x0bb\x0cc", "a\nb\nc"),
        ("\x1b[1;31mred\x1b[0m", "red"), ("\x1b[?25hx", "x"), ("\x93a\x94\x80", "“a”€"), ("\x85\x81", "\x85\x81"),
    ],
)  # fmt: skip
def test_characters_that_nobody_types_are_left_out(text: str, after: str) -> None:
    row = {"a": text, "b": [text, {"c": text}], "d": 3}
    assert mended(row, "control character")[0] == {"a": after, "b": [after, {"c": after}], "d": 3}
    assert mended(row)[0] == row


def test_a_change_is_shown_with_what_is_around_it() -> None:
    """Twenty letters before it, as JSON, and sixty in all."""
    _, made = mended({"x": "y", "a": "\x00", "b": "\x00"}, "control character")
    assert made == {"control characters removed": Repaired(1, 0, "a", '"\\u0000"', '""')}
    _, made = mended({"a": "x" * 19 + "\x00" + "y" * 30}, "control character")
    shown = made["control characters removed"]
    assert shown.before == '"' + "x" * 19 + "\\u0000" + "y" * 30 + '"'
    assert shown.after == '"' + "x" * 19 + "y" * 30 + '"'
    _, made = mended({"a": "x" * 30 + "\x00" + "y" * 50}, "control character")
    shown = made["control characters removed"]
    assert shown.before == "…" + "x" * 20 + "\\u0000" + "y" * 34 + "…"
    assert shown.after == "…" + "x" * 20 + "y" * 40 + "…"
    _, made = mended({"a": "x" * 30 + "\x00" + "y" * 39}, "control character")
    assert made["control characters removed"].after == "…" + "x" * 20 + "y" * 39 + '"'
