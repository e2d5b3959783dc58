"""Digests of things, the first place of each, and entries ordered by them."""

from __future__ import annotations

import numpy as np

from twofold.data.digests import Collected, Sorted, digest64, digest128, firsts


def test_a_digest_has_its_bits() -> None:
    assert 0 < digest64("a") < 2**64
    assert digest64("a") == digest64("a") != digest64("b")
    assert [len(digest128(thing)) for thing in ("a", ("a",), "\ud800")] == [16, 16, 16]
    assert digest128("a") == digest128("a") != digest128("b")
    assert digest64("\ud800") != digest64("a"), "half a character has one"


def test_a_text_is_another_thing_than_what_it_shows() -> None:
    assert digest128("('a',)") != digest128(("a",))
    assert digest128(("a",)) == digest128(("a",)) != digest128(("b",))


def test_digests_are_collected_in_order() -> None:
    collected = Collected()
    assert collected.array().shape == (0, 2)
    for thing in ("a", "b", "a"):
        collected.add(thing)
    found = collected.array()
    assert (found.shape, found.dtype) == ((3, 2), np.uint64)
    assert found[0].tolist() == found[2].tolist() != found[1].tolist()


def test_the_first_of_equal_digests_is_named() -> None:
    """Both halves count, wherever equal ones are."""
    digests = np.array([[1, 2], [1, 3], [1, 2], [2, 2], [1, 3], [0, 9], [2, 2]], np.uint64)
    assert firsts(digests).tolist() == [0, 1, 0, 3, 1, 5, 3]
    assert firsts(digests[:1]).tolist() == [0]
    assert firsts(digests[:0]).tolist() == []


def entries(*digests: int) -> list[bytes]:
    return [digest.to_bytes(8, "little") + bytes(8) for digest in digests]


def test_entries_are_ordered_by_digest_mark_and_row() -> None:
    made = Sorted()
    for digest, mark, row in zip(entries(2, 1, 1, 1), (0, 1, 0, 0), (4, 1, 3, 2), strict=True):
        made.add(digest, mark, row)
    (((part,)),) = [[*each] for each in made]
    assert part.tolist() == [[1, 0, 0, 2], [1, 0, 0, 3], [1, 0, 1, 1], [2, 0, 0, 4]]


def test_a_full_memory_is_written_at_once() -> None:
    made = Sorted(2)
    first, second, third = entries(3, 1, 1 << 63)
    made.add(first, 0, 1)
    assert made._starts == []
    made.add(second, 0, 2)
    assert [starts[-1] for starts in made._starts] == [2]
    assert len(made._waiting) == 0
    made.add(third, 7, 3)
    found = [entry for part in made for array in part for entry in array.tolist()]
    assert found == [[1, 0, 0, 2], [3, 0, 0, 1], [1 << 63, 0, 7, 3]]
    assert made.read(0, 2).tolist() == [[1, 0, 0, 2], [3, 0, 0, 1]]
