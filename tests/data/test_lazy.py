"""Parts, unions and readings of rows that are made as they are needed: their members, slices, lengths and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from twofold.data.differences import MOST_COMPARED, common_length, differences
from twofold.data.digests import Collected, firsts
from twofold.data.lazy import Concat, LazySequence, MappedRows, Subset, concat, key, subset


def doubled(member: str) -> list[str]:
    return [] if member == "c" else [member, member.upper()]


LETTERS = Concat([["a", "b"], [], ["c"]])
MADE: list[tuple[Sequence[str], list[str]]] = [
    (LETTERS, ["a", "b", "c"]),
    (Subset(LETTERS, np.array([2, 0])), ["c", "a"]),
    (MappedRows(LETTERS, doubled, "doubled"), ["a", "A", "b", "B"]),
]


@pytest.mark.parametrize(("rows", "members"), MADE)
def test_lazy_rows_are_sequences(rows: Sequence[str], members: list[str]) -> None:
    assert isinstance(rows, LazySequence)
    assert (list(rows), len(rows), bool(rows)) == (members, len(members), True)
    places = range(-len(members), len(members))
    assert [rows[i] for i in places] == [members[i] for i in places]
    for part in (slice(None), slice(1, None), slice(None, None, -1), slice(-2, 9), slice(2, 1)):
        assert rows[part] == members[part]
    for place in (len(members), -len(members) - 1):
        with pytest.raises(IndexError):
            rows[place]


def test_a_reading_of_nothing_is_empty() -> None:
    nothing = MappedRows(Concat([["c"]]), doubled, "doubled")
    assert (list(nothing), len(nothing), bool(nothing)) == ([], 0, False)
    with pytest.raises(IndexError):
        Concat([["a"]]).at(1)


def test_lists_stay_lists_and_one_part_stays_itself() -> None:
    assert concat([["a"], [], ["b"]]) == ["a", "b"]
    assert concat([LETTERS]) is LETTERS
    assert type(concat([LETTERS, ["d"]])) is Concat
    assert list(concat([LETTERS, ["d"]])) == ["a", "b", "c", "d"]
    assert subset(["a", "b", "c"], np.array([2, 1])) == ["c", "b"]
    assert type(subset(LETTERS, np.array([2, 1]))) is Subset


def test_keys_tell_rows_apart() -> None:
    def keys(letters: Any) -> list[str]:
        parts = Concat([letters, ["d"]])
        return [
            key(letters), parts.key, Concat([["d"], letters]).key, Subset(parts, np.array([0, 1])).key,
            Subset(parts, np.array([1, 0])).key, MappedRows(parts, doubled, "x").key,
            MappedRows(parts, doubled, "y").key,
        ]  # fmt: skip

    first = keys(["a", "b"])
    assert first == keys(["a", "b"])
    assert len({*first, *keys(["a", "c"])}) == 14
    assert {len(k) for k in first} == {32}
    assert key(["\ud800"]) != key(["\ud801"])


def test_the_first_of_equal_things() -> None:
    made = Collected()
    for thing in ("b", "a", ("b",), "a", "b", "é"):
        made.add(thing)
    digests = made.array()
    assert digests.shape == (6, 2)
    assert firsts(digests).tolist() == [0, 1, 2, 1, 0, 5]
    assert firsts(Collected().array()).tolist() == []
    assert firsts(digests[:1]).tolist() == [0]
    halves = np.array([[1, 2], [1, 3], [2, 2], [1, 2]], np.uint64)
    assert firsts(halves).tolist() == [0, 1, 2, 0]


def test_texts_are_compared_word_by_word() -> None:
    assert differences("the cat sat", "the dog sat!") == (
        [("the ", False), ("cat", True), (" sat", False)],
        [("the ", False), ("dog", True), (" sat", False), ("!", True)],
    )
    assert differences("a", "a b") == ([("a", False)], [("a", False), (" b", True)])
    assert differences("", "") == ([], [])
    words = "a b " * 500  # 2,000 pieces: two such are compared, one word more is not
    assert len(["a", "b", ""]) == 3
    assert MOST_COMPARED == 4_000_000
    assert differences(words, words) == ([(words, False)], [(words, False)])
    assert differences(words + "x", words) == ([(words + "x", False)], [(words, False)])
    assert differences(words, words[:-4] + "c b ")[0][-2:] == [("a", True), (" b ", False)]


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        (("abc", "abd"), 2),
        (("abc", "ab", "abcd"), 2),
        (("a", "b"), 0),
        (("abc",), 3),
        (("", "a"), 0),
        (("ab", "ab"), 2),
    ],
)
def test_how_much_rows_begin_with_in_common(rows: tuple[str, ...], length: int) -> None:
    assert common_length(*rows) == length
