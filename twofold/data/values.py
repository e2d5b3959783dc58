"""Numbers of rows whose figures are exact, although most of the numbers are on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import DTypeLike, NDArray

from twofold.data.scratch import Spool

DIGIT = 16
"""Bits of a number by which its rank is found in each of four passes."""


class Values:
    """Numbers in the order in which they come. Their figures take passes over blocks of them."""

    def __init__(self, dtype: DTypeLike = np.int64) -> None:
        self._spool = Spool(dtype)
        self.total: float = 0
        self.low, self.high = float("inf"), float("-inf")

    @classmethod
    def of(cls, numbers: Iterable[float], dtype: DTypeLike = np.int64) -> Values:
        made = cls(dtype)
        for number in numbers:
            made.append(number)
        return made

    def append(self, number: float) -> None:
        self._spool.append(number)
        self.total += number
        self.low, self.high = min(self.low, number), max(self.high, number)

    def __len__(self) -> int:
        return len(self._spool)

    def __iter__(self) -> Iterator[float]:
        return chain.from_iterable(block.tolist() for block in self._spool.blocks())

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        return (block.astype(np.float64) for block in self._spool.blocks())

    @property
    def mean(self) -> float:
        return self.total / len(self)

    def counts(self, edges: Sequence[float]) -> list[int]:
        """As numpy.histogram: between the `edges`, of which only the last one belongs to the bin below it."""
        counted = sum((np.histogram(block, edges)[0] for block in self.blocks()), np.zeros(len(edges) - 1, np.int64))
        return counted.tolist()

    def beyond(self, low: float, high: float) -> int:
        """How many are less than `low` or more than `high`."""
        return sum(int(((block < low) | (block > high)).sum()) for block in self.blocks())


def quantiles(several: Sequence[Values], levels: Sequence[float]) -> list[float]:
    """The quantiles of all values together, interpolated as numpy.quantile does."""
    count = sum(map(len, several))
    found = list[float]()
    for level in levels:
        place = (count - 1) * level
        rank = int(place)
        below, part = _ranked(several, rank), place - rank
        above = _ranked(several, rank + 1) if part else below
        step = above - below
        found.append(below + step * part if part < 0.5 else above - step * (1 - part))
    return found


def _ranked(several: Sequence[Values], rank: int) -> float:
    """The value with `rank` smaller ones before it: digit by digit of numbers that order as the values do."""
    prefix = 0
    for shift in range(64 - DIGIT, -1, -DIGIT):
        counts = np.zeros(1 << DIGIT, np.int64)
        for values in several:
            for block in values.blocks():
                digits = _ordered(block) >> np.uint64(shift)
                if shift + DIGIT < 64:
                    digits = digits[digits >> np.uint64(DIGIT) == prefix]
                counts += np.bincount(digits & np.uint64((1 << DIGIT) - 1), minlength=len(counts))
        sums = np.cumsum(counts)
        digit = int(np.searchsorted(sums, rank, side="right"))
        rank -= int(sums[digit - 1]) if digit else 0
        prefix = prefix << DIGIT | digit
    sign = np.uint64(1 << 63)
    whole = np.uint64(prefix)
    return float((whole ^ sign if whole & sign else ~whole).view(np.float64))


def _ordered(block: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The bits of numbers, changed so that they order as the numbers do."""
    bits = (block + 0.0).view(np.uint64)
    return bits ^ np.where(bits >> np.uint64(63), np.uint64(2**64 - 1), np.uint64(1 << 63))
