"""Entries in parts of what memory holds, filled to the brim; digests with all of their bits."""

from __future__ import annotations

import numpy as np
import pytest

from twofold.data import digests
from twofold.data.digests import Collected, Sorted, digest64, digest128

Entry = tuple[int, int]
"""The first half of a digest, and a row."""


def sizes(at_once: int, *entries: Entry) -> list[list[int]]:
    """How many entries each array of each part has, where they come in order of their digests."""
    made = Sorted(at_once)
    for half, row in entries:
        made.add(half.to_bytes(8, "little") + bytes(8), row % 3, row)
    parts = [[array.tolist() for array in part] for part in made]
    every = [(entry[0], entry[3]) for part in parts for array in part for entry in array]
    assert sorted(every) == sorted(entries), "none is lost, none comes twice"
    assert [half for half, _ in every] == sorted(half for half, _ in every)
    assert all((entry[1], entry[2]) == (0, entry[3] % 3) for part in parts for array in part for entry in array)
    return [[len(array) for array in part] for part in parts if any(part)]


def spread(step: int, *counts: int) -> list[Entry]:
    """So many entries with the digests 0, `step`, 2 `step` …, turned around."""
    halves = [step * place for place, count in enumerate(counts) for _ in range(count)]
    return [(half, row) for row, half in enumerate(halves, 1)][::-1]


def test_parts_are_filled_to_the_brim() -> None:
    """Parts differ in their first ten bits; as many of them are read together as there is memory for."""
    assert sizes(4, *spread(1 << 54, 2, 2, 4, 3)) == [[4], [4], [3]]
    assert sizes(4, *spread(1 << 54, 1, 4, 1, 2, 1, 1)) == [[1], [4], [4], [1]]
    assert sizes(5, *spread(1 << 54, 2, 2, 4, 3)) == [[4], [4], [3]]
    assert sizes(20, *spread(1 << 54, 2, 2, 4, 3)) == [[11]], "all of them wait in memory"
    assert sizes(11, *spread(1 << 54, 2, 2, 4, 3)) == [[11]], "all of them were written, and fit"


@pytest.mark.parametrize("shift", [53, 44, 43, 34, 24, 14, 10, 4, 3, 1, 0])
def test_digests_that_differ_in_later_bits_are_parted_there(shift: int) -> None:
    assert sizes(2, *spread(1 << shift, 2, 2)) == [[2], [2]]
    assert sizes(3, *spread(1 << shift, 2, 1, 3)) == [[3], [3]]


def test_the_entries_of_one_digest_come_run_by_run() -> None:
    """Three at a time were written; a digest with more than memory holds comes in an array of each run."""
    assert sizes(3, *[(5, row) for row in range(1, 8)]) == [[3, 3, 1]]
    assert sizes(3, (9, 1), (5, 2), (5, 3), (5, 4), (5, 5), (9, 6)) == [[2, 2], [2]]
    made = Sorted(2)
    for row in range(1, 6):
        made.add(bytes(16), 0, row)
    (part,) = [each for each in made if len(each[0])]
    assert (len(part), [array[:, 3].tolist() for array in part]) == (3, [[1, 2], [3, 4], [5]])
    assert part[-1].tolist() == [[0, 0, 0, 5]]


def test_the_places_of_a_run_are_those_in_the_file() -> None:
    """Each entry is of 32 bytes; a run knows where each of its 1,024 parts begins, and its end."""
    made = Sorted(2)
    for half, row in ((0, 1), (1 << 54, 2), (3 << 54, 3), (1023 << 54, 4)):
        made.add(half.to_bytes(8, "little") + bytes(8), 7, row)
    first, second = made._starts
    assert (len(first), made._scratch.size) == (1025, 4 * 32)
    assert (first[[0, 1, 2, 1024]].tolist(), second[[0, 3, 4, 1023, 1024]].tolist()) == ([0, 1, 2, 2], [2, 2, 3, 3, 4])
    assert made.read(1, 3).tolist() == [[1 << 54, 0, 7, 2], [3 << 54, 0, 7, 3]]


def test_without_a_number_as_many_wait_as_the_module_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "AT_ONCE", 3)
    made = Sorted()
    for row in range(1, 6):
        made.add(bytes(16), 0, row)
    assert (len(made._starts), len(made._waiting)) == (1, 2 * 32)


def test_digests_have_all_of_their_bits() -> None:
    """Of 64 or 128 bits each is set in one of forty digests, and not set in another."""
    numbers = [digest64(n) for n in range(40)]
    halves = [int.from_bytes(digest128(thing)) for n in range(40) for thing in (str(n), (n,))]
    for values, bits in ((numbers, 64), (halves, 128)):
        union, intersection = 0, (1 << bits) - 1
        for value in values:
            union, intersection = union | value, intersection & value
        assert (union, intersection) == ((1 << bits) - 1, 0)


def test_digests_stay_what_they_are() -> None:
    """By value, those of BLAKE2b: what is on disk refers to them. A text is another thing than its `repr`."""
    made = Collected()
    made.add("a")
    assert made.array().dtype == np.uint64
    assert made.array().tobytes().hex() == "b444837d02102b0f7bc7574403529e4d"
    assert digest128("a").hex() == "27c35e6e9373877f29e562464e46497e"
    assert digest128(("a",)).hex() == "ba9aaf1f1327c92711985a0dcc446e8a"
    assert digest64("a") == 0x9F831472C270FBE9
