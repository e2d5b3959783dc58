"""Digests of whatever is compared: what is equal among millions of rows, without keeping the rows."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from twofold.errors import DataError

Digests = NDArray[np.uint64]
"""[n, 2]: 128 bits of each of n things."""
AT_ONCE = 1 << 18
"""Entries that are sorted in memory, 32 bytes each; more are on disk."""
_PARTS = 10
"""Bits of a digest by which the entries on disk are read in parts."""


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


def digest128(thing: object) -> bytes:
    """128 bits of a text, or of the `repr` of another thing."""
    if isinstance(thing, str):
        return blake2b(thing.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return blake2b(repr(thing).encode(), digest_size=16, person=b"repr").digest()


Entries = NDArray[np.uint64]
"""[n, 4]: of each entry the two halves of its digest, its mark and its row."""


class Sorted:
    """Entries of rows, ordered by digest: a digest of 128 bits, a mark and the row's number.

    Memory is bounded by `at_once` entries. More are written to a temporary file in sorted runs, and read side by side.
    """

    _ENTRY = Struct("=16sQQ")

    def __init__(self, at_once: int | None = None) -> None:
        self._at_once, self._waiting = at_once or AT_ONCE, bytearray()
        self._most = self._at_once * self._ENTRY.size
        self._file = None
        self._starts = list[NDArray[np.int64]]()
        """Of each run the place of each part in the file, and its end."""

    def add(self, digest: bytes, mark: int, row: int) -> None:
        """Add an entry. Raises DataError where the disk refuses it."""
        self._waiting += self._ENTRY.pack(digest, mark, row)
        if len(self._waiting) >= self._most:
            self._write()

    def __iter__(self) -> Iterator[Entries]:
        """All entries in parts, each ordered by digest, mark and row; entries of one digest are in one part."""
        if not self._starts:
            yield _ordered(np.frombuffer(bytes(self._waiting), np.uint64).reshape(-1, 4))
            return
        if self._waiting:
            self._write()
        starts = np.stack(self._starts)
        sizes, begin = np.diff(starts).sum(0), 0
        while begin < len(sizes):
            end = begin + max(1, int(np.searchsorted(np.cumsum(sizes[begin:]), self._at_once, side="right")))
            yield _ordered(np.concatenate([self._read(run[begin], run[end]) for run in starts]))
            begin = end

    def _write(self) -> None:
        """Write what waits as one sorted run."""
        entries = _ordered(np.frombuffer(bytes(self._waiting), np.uint64).reshape(-1, 4))
        self._waiting.clear()
        parts = np.searchsorted(entries[:, 0] >> np.uint64(64 - _PARTS), np.arange((1 << _PARTS) + 1, dtype=np.uint64))
        before = self._starts[-1][-1] if self._starts else 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            self._file.write(entries.tobytes())
            self._file.flush()
        except OSError as error:
            remedy = "free space there, or name another folder: TMPDIR=FOLDER"
            raise DataError(
                f"cannot be written: {error.strerror}", where=tempfile.gettempdir(), remedy=remedy
            ) from None
        self._starts.append(before + parts)

    def _read(self, begin: int, end: int) -> Entries:
        assert self._file is not None
        size = self._ENTRY.size
        data = os.pread(self._file.fileno(), int(end - begin) * size, int(begin) * size)
        return np.frombuffer(data, np.uint64).reshape(-1, 4)


def _ordered(entries: Entries) -> Entries:
    return entries[np.lexsort(entries.T[::-1])]
