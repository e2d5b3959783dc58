"""The order in which rows are met: a pure function of (seed, epoch), so that resuming at step k needs no state."""

from __future__ import annotations

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


@lru_cache(maxsize=8)
def permutation(num: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of range(num).

    Made by sorting raw Philox bits: numpy promises that the bits of a bit generator stay the same over versions, and
    promises no such thing of its shuffles (nor does torch of `randperm`).
    """
    key = int.from_bytes(sha256(f"order:{seed}:{epoch}".encode()).digest()[:16], "little")
    return tuple(np.argsort(np.random.Philox(key=key).random_raw(num), kind="stable").tolist())
