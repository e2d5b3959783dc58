"""The order in which rows are met: a pure function of (seed, epoch), so that resuming at step k needs no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np


@dataclass(frozen=True)
class Order:
    """Endless passes over `num` rows, each epoch its own permutation, cut into batches that may span epochs."""

    num: int
    seed: int

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ValueError("an order needs at least one row")

    def at(self, step: int, size: int) -> list[int]:
        """The rows of batch `step` (from 0) when every batch has `size` rows."""
        places = range(step * size, (step + 1) * size)
        return [permutation(self.num, self.seed, place // self.num)[place % self.num] for place in places]

    def epochs(self, step: int, size: int) -> float:
        """Passes over the data that are complete before batch `step`."""
        return step * size / self.num


@dataclass(frozen=True)
class Mixture:
    """Endless epochs with as many rows as all `parts` together, sampled from each part by its weight.

    `parts` are the rows of each part, `weights` relative. A part continues across epochs in shuffled passes over its
    own rows: even with a small weight, all of its rows are used before any is used again.
    """

    parts: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.weights) or not all(self.parts):
            raise ValueError("a mixture needs parts with rows, and a weight for each")

    @property
    def num(self) -> int:
        """Rows of an epoch."""
        return sum(len(part) for part in self.parts)

    @property
    def shares(self) -> tuple[int, ...]:
        """Rows of an epoch that each part gives: they sum to `num`, each within one of its weight's exact share."""
        return _apportioned(self.num, self.weights)

    def at(self, step: int, size: int) -> list[int]:
        """The rows of batch `step` (from 0) when every batch has `size` rows."""
        return [self._row(place) for place in range(step * size, (step + 1) * size)]

    def epochs(self, step: int, size: int) -> float:
        """Epochs that are complete before batch `step`."""
        return step * size / self.num

    def _row(self, place: int) -> int:
        epoch, place = divmod(place, self.num)
        slot, part, shares = permutation(self.num, self.seed, epoch)[place], 0, self.shares
        while slot >= shares[part]:
            slot, part = slot - shares[part], part + 1
        own = self.parts[part]
        turn, place = divmod(epoch * shares[part] + slot, len(own))
        return own[permutation(len(own), self.seed + 1 + part, turn)[place]]


@lru_cache(maxsize=64)
def _apportioned(num: int, weights: Sequence[float]) -> tuple[int, ...]:
    """`num` in whole numbers by `weights`: the largest remainders are rounded up (Hamilton's method)."""
    exact = [num * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    left = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))[: num - sum(counts)]
    return tuple(count + (i in left) for i, count in enumerate(counts))


@lru_cache(maxsize=16)
def permutation(num: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of range(num).

    Made by sorting raw Philox bits: numpy promises that the bits of a bit generator stay the same over versions, and
    promises no such thing of its shuffles (nor does torch of `randperm`).
    """
    key = int.from_bytes(sha256(f"order:{seed}:{epoch}".encode()).digest()[:16], "little")
    return tuple(np.argsort(np.random.Philox(key=key).random_raw(num), kind="stable").tolist())
