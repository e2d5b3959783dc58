"""Packs for several processes, by hand: each has equally many, of similar size, within the bounds."""

from __future__ import annotations

import pytest

from support import tiny
from twofold.batch import Group
from twofold.models.packing import Packing, bins


def sized(*sizes: int) -> list[Group]:
    return tiny.groups(*[(size - 1, 2) for size in sizes])


@pytest.mark.parametrize(
    ("sizes", "packing", "processes", "want"),
    [
        ((5, 4, 3, 2), Packing(tokens=100), 1, [[0, 1, 2, 3]]),
        ((5, 4, 3, 2), Packing(tokens=100), 2, [[0, 3], [1, 2]]),  # 7 tokens each
        ((5, 4, 3, 2), Packing(tokens=7), 2, [[0, 3], [1, 2]]),  # which is the budget
        ((5, 4, 3, 2), Packing(tokens=6), 2, [[0], [1], [2], [3]]),  # three packs would not be dealt evenly
        ((2,) * 7, Packing(tokens=4), 3, [[0, 6], [1], [2], [3], [4], [5]]),
        ((4, 4, 3, 3, 3, 3), Packing(tokens=7), 2, [[0], [1], [2, 4], [3, 5]]),
        ((50, 3, 3), Packing(tokens=10), 2, [[0], [1, 2]]),  # a group beyond the budget is alone
        ((9, 1, 1, 1), Packing(tokens=100, groups=3), 2, [[0], [1, 2, 3]]),
        ((9, 1, 1, 1), Packing(tokens=100, groups=2), 2, [[0], [1], [2], [3]]),
        ((9, 1, 1, 1, 1, 1), Packing(tokens=100, groups=3), 2, [[0], [1, 4], [2, 5], [3]]),  # of two, one has five
        ((2, 3), Packing(tokens=100), 3, [[0], [1]]),
    ],
)
def test_each_process_has_equally_many_packs(
    sizes: tuple[int, ...], packing: Packing, processes: int, want: list[list[int]]
) -> None:
    assert bins(sized(*sizes), packing, processes) == want


def test_a_size_that_is_not_settled_is_an_error() -> None:
    with pytest.raises(ValueError) as error:
        bins(sized(3), Packing(tokens="auto"))
    assert str(error.value) == "the size of packs must be settled before there are packs"
