"""Which turns of a demonstrated dialogue are trained on: the last, all, or those that the row marks."""

from __future__ import annotations

import pytest

from twofold.data.supervision import LossOn, supervised
from twofold.records import Completion, Demonstration, Labelled, Message, Pair, Source

AT = Source("f", 4)
CALL = '{"tool_calls": []}'


def user(text: str) -> Message:
    return Message("user", text)


def told(text: str, scored: bool | None = None, more: str = "") -> Message:
    return Message("assistant", text, more, scored)


def trained(on: LossOn, *turns: Message, last: Completion = "z") -> list[tuple[int, Completion]]:
    """How many turns are before each completion, and the completion."""
    record = Demonstration(turns, last, AT, weight=2.0)
    found = list(supervised(record, on))
    assert all(isinstance(each, Demonstration) and each.source == AT and each.weight == 2.0 for each in found)
    assert all(each.prompt == turns[: len(each.prompt)] for each in found)
    return [(len(each.prompt), each.completion) for each in found if isinstance(each, Demonstration)]


def test_what_answers_come_before_the_last() -> None:
    turns = (user("a"), told("b"), user("c"), told("d"), user("e"))
    assert trained("last", *turns) == [(5, "z")]
    assert trained("all", *turns) == [(1, "b"), (3, "d"), (5, "z")]


@pytest.mark.parametrize("on", ["last", "all"])
def test_marks_of_the_row_decide(on: LossOn) -> None:
    turns = (user("a"), told("b", True), user("c"), told("d", False), user("e"))
    assert trained(on, *turns) == [(1, "b"), (5, "z")]
    silent = (told("z", False),)
    assert trained(on, *turns, last=silent) == [(1, "b")]
    several = (told("y", False), user("x"), told("z"))
    assert trained(on, user("a"), last=several) == [(1, several)]
    unscored = (told("y", False), Message("tool", "1", "", True), told("z", False))
    assert trained(on, user("a"), last=unscored) == [], "the tool's turn is nobody's to train on"


def test_a_greeting_and_an_empty_turn_are_not_trained_on() -> None:
    assert trained("all", told("hello"), user("a")) == [(2, "z")]
    assert trained("all", Message("system", "s"), told("hello"), user("a"), told("b"), user("c")) == [
        (3, "b"), (5, "z"),
    ]  # fmt: skip
    assert trained("all", user("a"), told(" \n"), user("c")) == [(3, "z")]
    called = told("", None, CALL)
    assert trained("all", user("a"), called, user("c")) == [(1, (called,)), (3, "z")]


@pytest.mark.parametrize("on", ["last", "all"])
def test_what_judges_answers_and_plain_text_stay_as_they_are(on: LossOn) -> None:
    turns = (user("a"), told("b"), user("c"))
    records = [Pair(turns, "x", "y", AT), Labelled(turns, "x", True, AT), Demonstration("text", "x", AT)]
    for record in records:
        (same,) = supervised(record, on)
        assert same is record
