"""Rows that no step meets, many of them: packed so many at once."""

from __future__ import annotations

import pytest

from support import tiny
from twofold.models.packing import Packing
from twofold.training import first_packs as first
from twofold.training.first_packs import first_packs


class Never:
    """An order in which every step meets row 1."""

    def at(self, step: int, size: int) -> list[int]:
        return [1] * size


@pytest.mark.parametrize(
    ("at_once", "packs"), [(9, [[1], [0, 2, 3, 4]]), (3, [[1], [0, 2, 3], [4]]), (2, [[1], [0, 2], [3, 4]])]
)
def test_the_rest_is_packed_so_many_rows_at_once(
    at_once: int, packs: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first._AT_ONCE == 16384
    monkeypatch.setattr(first, "_AT_ONCE", at_once)
    groups = tiny.groups(*[(3, 2)] * 5)
    assert list(first_packs(groups, Never(), 1, 7, Packing())) == packs


def test_where_all_are_new_no_further_step_is_asked() -> None:
    asked: list[int] = []

    class All:
        def at(self, step: int, size: int) -> list[int]:
            asked.append(step)
            return [0, 1]

    assert list(first_packs(tiny.groups((3, 2), (2, 2)), All(), 2, 5, Packing())) == [[0, 1]]
    assert asked == [0]
    assert list(first_packs(tiny.groups((3, 2)), All(), 2, 0, Packing())) == [[0]]
