"""The packs in which training meets its rows for the first time: order and packs are functions of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from twofold.batch import Group
from twofold.models.packing import Packing, bins

_AT_ONCE = 16_384  # rows that no step meets, packed together


class BatchOrder(Protocol):
    """Which rows a step meets."""

    def at(self, step: int, size: int) -> list[int]: ...


def first_packs(
    groups: Sequence[Group], order: BatchOrder, batch_size: int, steps: int, packing: Packing
) -> Iterator[list[int]]:
    """Indices of `groups` by pack, as `Step` makes the packs of each batch, as long as a row is new; then those that no
    step meets."""
    new = set(range(len(groups)))
    for step in range(steps):
        if not new:
            return
        batch = order.at(step, batch_size)
        for members in bins([groups[i] for i in batch], packing):
            pack = [batch[place] for place in members]
            if not new.isdisjoint(pack):
                new.difference_update(pack)
                yield pack
    rest = sorted(new)
    for begin in range(0, len(rest), _AT_ONCE):
        part = rest[begin : begin + _AT_ONCE]
        for members in bins([groups[i] for i in part], packing):
            yield [part[place] for place in members]
