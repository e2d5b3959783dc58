"""Sixteen bytes for whatever is compared: what is equal among millions of rows, without keeping the rows."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.uint64]
"""[n, 2]: 128 bits of each of n things."""


class Collected:
    """Digests as they come; two of a million are equal by accident with a probability of 1e-27."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, thing: object) -> None:
        """Add the `repr` of `thing`."""
        self._bytes += blake2b(repr(thing).encode(), digest_size=16).digest()

    def array(self) -> Digests:
        """All of them so far, in order."""
        return np.frombuffer(bytes(self._bytes), np.uint64).reshape(-1, 2)


def firsts(digests: Digests) -> NDArray[np.int64]:
    """For each place [n] the first place that holds the same."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(1)
    found = np.empty(len(order), np.int64)
    found[order] = order[begins][np.cumsum(begins) - 1]
    return found


def digest64(thing: object) -> int:
    """64 bits of the `repr` of `thing`."""
    return int.from_bytes(blake2b(repr(thing).encode("utf-8", "replace"), digest_size=8).digest())
