"""MinHash signatures of rows, on disk, and the pairs of rows whose signatures are alike.

The signatures are those of `datasketch`. Its index of buckets is in memory, about 10 kB per row; here the buckets are
found by sorting one band of all rows at a time, which takes about 50 bytes of memory and 0.7 to 1.2 kB of disk per row.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from twofold.data.grams import Grams
from twofold.errors import RecipeError

BANDS, BAND = 25, 5
"""Two texts that share 80% of their n-grams have one of 25 equal bands of 5 values with a probability of 99.99%."""
PERMUTATIONS = BANDS * BAND
CHUNK = 4096
"""Rows that are written, read and compared together."""
Values = NDArray[np.uint32]


def refuse_without_datasketch(option: str) -> None:
    """Raise RecipeError where the extra is not installed."""
    if find_spec("datasketch") is None:
        remedy = f"pip install 'twofold[duplicates]', or leave {option} out"
        raise RecipeError("the package datasketch is not installed", where=option, remedy=remedy)


class Signatures:
    """Signatures of rows, each of `parts` texts. Two rows are alike if all their parts are."""

    def __init__(self, parts: int) -> None:
        from datasketch import MinHash

        self._parts = parts
        self._empty = MinHash(PERMUTATIONS, hashfunc=int)
        self._waiting, self._exact, self._count = list[Values](), array("Q"), 0
        self._values, self._keys = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        for file in (self._values, self._keys):
            weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return self._count

    def add(self, parts: Sequence[Grams], exact: int) -> None:
        """Add a row with the grams of its parts. Rows with the same `exact` are equal, and no pair of `alike`."""
        made = np.stack([self._signature(part) for part in parts])
        self._waiting.append(made)
        self._exact.append(exact)
        self._count += 1
        if len(self._waiting) == CHUNK:
            self._write()

    def _signature(self, part: Grams) -> Values:
        made = self._empty.copy()
        made.update_batch((part >> np.uint64(32)).tolist())
        return made.hashvalues

    def _write(self) -> None:
        """Write the waiting rows: their values, row by row, and the keys of their bands, band by band."""
        values = np.stack(self._waiting)
        keys = np.zeros((BANDS, CHUNK), np.uint64)
        whole = np.ascontiguousarray(values.min(1)).reshape(len(values), BANDS, BAND)
        for column in range(BAND):
            keys[:, : len(values)] = keys[:, : len(values)] * np.uint64(0x9E3779B97F4A7C15) + whole[:, :, column].T
        self._values.write(values.tobytes())
        self._keys.write(keys.tobytes())
        self._waiting.clear()

    def alike(self, threshold: float, behind: int = 0) -> Iterator[tuple[int, int, float]]:
        """For each row from `behind` on that is like an earlier one: the earlier one, itself, and their likeness.

        Without `behind` the earlier row is any, otherwise one before `behind`. The likeness is the estimated Jaccard
        similarity of the least similar part; its standard error at 0.8 is 0.036.
        """
        if self._waiting:
            self._write()
        self._values.flush()
        self._keys.flush()
        match, likeness = np.full(self._count, -1, np.int64), np.zeros(self._count, np.float32)
        for band in range(BANDS):
            first, second = self._candidates(band)
            new = (match[second] < 0) & (second >= behind) & ((first < behind) | (behind == 0))
            first, second = first[new], second[new]
            for begin in range(0, len(first), CHUNK):
                a, b = first[begin : begin + CHUNK], second[begin : begin + CHUNK]
                share = self._likeness(a, b)
                close = share >= threshold
                match[b[close]], likeness[b[close]] = a[close], share[close]
        for second in np.flatnonzero(match >= 0).tolist():
            yield int(match[second]), second, float(likeness[second])

    def _candidates(self, band: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of rows with the same key: each row with the one before it, and with the first of all."""
        keys = self._band(band)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        same = ordered[1:] == ordered[:-1]
        begins = np.concatenate([[True], ~same])
        firsts = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))] if len(order) else order
        again = np.flatnonzero(same)
        pairs = np.concatenate([[order[again], order[again + 1]], [firsts[again + 1], order[again + 1]]], axis=1)
        exact = np.frombuffer(self._exact, np.uint64)
        pairs = pairs[:, exact[pairs[0]] != exact[pairs[1]]]
        return pairs[0], pairs[1]

    def _band(self, band: int) -> NDArray[np.uint64]:
        """The keys of one band of all rows."""
        size, found = 8 * CHUNK, list[bytes]()
        for chunk in range(-(-self._count // CHUNK)):
            found.append(os.pread(self._keys.fileno(), size, (chunk * BANDS + band) * size))
        return np.frombuffer(b"".join(found), np.uint64)[: self._count]

    def _likeness(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        return (self._read(first) == self._read(second)).mean(2).min(1)

    def _read(self, rows: NDArray[np.int64]) -> Values:
        size = 4 * self._parts * PERMUTATIONS
        read = b"".join(os.pread(self._values.fileno(), size, row * size) for row in rows.tolist())
        return np.frombuffer(read, np.uint32).reshape(-1, self._parts, PERMUTATIONS)
