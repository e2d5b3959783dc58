"""Where two texts differ, word by word, and what several begin with."""

from __future__ import annotations

import pytest

from twofold.data import differences as module
from twofold.data.differences import common_length, differences


def test_words_that_differ_are_marked_on_both_sides() -> None:
    assert differences("a b", "a c") == ([("a ", False), ("b", True)], [("a ", False), ("c", True)])
    assert differences("a b", "a") == ([("a", False), (" b", True)], [("a", False)])
    assert differences("a!", "a?") == ([("a", False), ("!", True)], [("a", False), ("?", True)])
    assert differences("", "") == ([], [])
    assert differences("x", "y") == ([("x", True)], [("y", True)])


def test_long_texts_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three words by two are as many as may be compared here."""
    monkeypatch.setattr(module, "MOST_COMPARED", 6)
    assert differences("a b", "a ") == ([("a ", False), ("b", True)], [("a ", False)])
    assert differences("a b", "a c") == ([("a b", False)], [("a c", False)])


def test_words_that_are_frequent_are_compared_too() -> None:
    """More than 200 of them, which `difflib` would take for noise."""
    left, right = differences("y " + "x " * 150, "z " + "x " * 150)
    assert left == [("y", True), (" " + "x " * 150, False)]
    assert right == [("z", True), (" " + "x " * 150, False)]


def test_the_beginning_that_all_share() -> None:
    assert [common_length(*rows) for rows in (("abc", "abd"), ("ab", "ab"), ("ab", "abc"), ("x", "y"), ("", "a"))] == [
        2, 2, 2, 0, 0,
    ]  # fmt: skip
    assert common_length("abcd", "abce", "abx") == 2
    assert common_length("abc") == 3
    assert common_length([1, 2, 3], (1, 2, 4)) == 2
    assert common_length("abcdefgh", "abcdefgz") == 7
