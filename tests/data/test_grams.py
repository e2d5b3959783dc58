"""Words and n-grams as hashes: by value, so that what was stored once is found again."""

from __future__ import annotations

import numpy as np

from twofold.data.grams import grams, prompt_words, words
from twofold.records import TOOLS, Message

A, B, C = (int(words(letter)[0]) for letter in "abc")


def test_hashes_of_words_stay_what_they_are() -> None:
    assert words("a b").tolist() == [0x40F89E395B66422F, 0x8472C2E34D854F75]
    assert words("a b").dtype == np.uint64
    assert words("A, b! \ud800").tolist()[:2] == [A, B]
    assert words("ab_1 x").tolist() == [*words("ab_1").tolist(), *words("x").tolist()]
    assert len({A, B, C}) == 3


def finished(value: int) -> int:
    """The mixing at the end of a gram, in whole numbers of Python."""
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 % 2**64
    return value ^ (value >> 29)


def test_a_gram_is_a_polynomial_of_its_words() -> None:
    """Horner's rule modulo 2⁶⁴, and then the bits are mixed."""
    step = 0x9E3779B97F4A7C15
    two = [finished((x * step + y) % 2**64) for x, y in ((A, B), (B, C))]
    assert grams(words("a b c"), 2).tolist() == two
    assert grams(words("a b c"), 3).tolist() == [finished(((A * step + B) * step + C) % 2**64)]
    assert grams(words("a b c"), 4).tolist() == grams(words("a b c"), 3).tolist()
    assert grams(words("a b c"), 1).tolist() == [finished(x) for x in (A, B, C)]
    assert grams(words(""), 3).tolist() == []


def test_instructions_and_tools_are_no_words_of_a_chat() -> None:
    chat = (Message(TOOLS, "a"), Message("system", "b"), Message("developer", "b"), Message("user", "c"))
    assert prompt_words(chat).tolist() == [C]
    assert prompt_words((*chat, Message("assistant", "a"))).tolist() == [C, A]
    assert prompt_words(chat[:3]).tolist() == [A, B, B], "where there is nothing else"
    assert prompt_words("a c").tolist() == [A, C]


def test_both_forms_of_an_accented_letter_are_one_word() -> None:
    assert words("e\u0301te\u0301 !").tolist() == words("\u00c9t\u00e9").tolist()
