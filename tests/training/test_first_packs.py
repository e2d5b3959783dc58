"""The packs of the reference are those that the steps of the first epoch make, every row in one of them."""

from __future__ import annotations

import pytest

from support import tiny
from twofold.data.order import Mixture, Order
from twofold.models.packing import Packing, bins
from twofold.training.first_packs import first_packs

GROUPS = tiny.pairs(11)
PACKING = Packing(tokens=40)


def of_steps(order: Order | Mixture, size: int, steps: int) -> list[list[int]]:
    """What `Step` makes of its batches."""
    batches = [order.at(step, size) for step in range(steps)]
    return [[b[i] for i in pack] for b in batches for pack in bins([GROUPS[i] for i in b], PACKING)]


@pytest.mark.parametrize("size", [1, 4, 11, 16])
def test_they_are_the_packs_of_the_steps(size: int) -> None:
    """The last batch of an epoch reaches into the next; a batch larger than the data holds rows twice."""
    order = Order(len(GROUPS), seed=3)
    found = list(first_packs(GROUPS, order, size, 100, PACKING))
    epoch = of_steps(order, size, -(-len(GROUPS) // size))
    assert [pack for pack in epoch if pack in found] == found
    assert found[0] == epoch[0]
    assert {i for pack in found for i in pack} == set(range(len(GROUPS)))
    assert max(map(len, found)) > 1 or size == 1


def test_rows_that_no_step_meets_come_last_in_packs_of_their_own() -> None:
    order = Order(len(GROUPS), seed=3)
    found = list(first_packs(GROUPS, order, 4, 1, PACKING))
    first = of_steps(order, 4, 1)
    assert found[: len(first)] == first
    rest = sorted({*range(len(GROUPS))} - {i for pack in first for i in pack})
    assert found[len(first) :] == [[rest[i] for i in pack] for pack in bins([GROUPS[i] for i in rest], PACKING)]


def test_a_mixture_is_followed_until_every_row_was_met() -> None:
    """Part two gives one row of eleven an epoch: the last of its four is met in the fourth."""
    order = Mixture(((0, 1, 2, 3, 4, 5, 6), (7, 8, 9, 10)), (10.0, 1.0), seed=0)
    found = list(first_packs(GROUPS, order, 11, 100, PACKING))
    packs = of_steps(order, 11, 4)
    assert all(pack in packs for pack in found)
    assert {i for pack in found for i in pack} == set(range(len(GROUPS)))
