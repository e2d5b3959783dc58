"""Digests of whatever is compared: what is equal among millions of rows, without keeping the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.data.scratch import Scratch

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
        self._scratch, self._starts = Scratch(), list[NDArray[np.int64]]()
        """Of each run the place of each part in the file, and its end."""

    def add(self, digest: bytes, mark: int, row: int) -> None:
        """Add an entry. Raises DataError where the disk refuses it."""
        self._waiting += self._ENTRY.pack(digest, mark, row)
        if len(self._waiting) >= self._most:
            self._write()

    def __iter__(self) -> Iterator[Sequence[Entries]]:
        """All entries in parts: one array ordered by digest, mark and row with all entries of its digests. Of a digest
        with too many entries for memory several arrays, of earlier rows and of later ones."""
        if not self._starts:
            yield [_ordered(np.frombuffer(bytes(self._waiting), np.uint64).reshape(-1, 4))]
            return
        if self._waiting:
            self._write()
        yield from self._parts(np.stack(self._starts), 64 - _PARTS)

    def _parts(self, starts: NDArray[np.int64], shift: int) -> Iterator[Sequence[Entries]]:
        """The entries of each run from `starts[run, part]` on, where parts differ in the bits from `shift` on."""
        sizes, begin = np.diff(starts).sum(0), 0
        while begin < len(sizes):
            end = begin + max(1, int(np.searchsorted(np.cumsum(sizes[begin:]), self._at_once, side="right")))
            runs = [(int(run[begin]), int(run[end])) for run in starts]
            if sizes[begin:end].sum() <= self._at_once:
                yield [_ordered(np.concatenate([self.read(*run) for run in runs]))]
            elif shift:
                further = max(0, shift - _PARTS)
                yield from self._parts(
                    np.stack([run[0] + _starts(self.read(*run), shift, further) for run in runs]), further
                )
            else:
                yield OneDigest(self, [run for run in runs if run[0] < run[1]])
            begin = end

    def _write(self) -> None:
        """Write what waits as one sorted run."""
        entries = _ordered(np.frombuffer(bytes(self._waiting), np.uint64).reshape(-1, 4))
        self._waiting.clear()
        before = self._scratch.size // self._ENTRY.size
        self._scratch.append(entries.tobytes())
        self._starts.append(before + _starts(entries, 64, 64 - _PARTS))

    def read(self, begin: int, end: int) -> Entries:
        """The entries at these places in the file."""
        size = self._ENTRY.size
        return np.frombuffer(self._scratch.read(begin * size, (end - begin) * size), np.uint64).reshape(-1, 4)


class OneDigest(Sequence[Entries]):
    """The entries of one digest, run by run: each array is of later rows than those before it."""

    def __init__(self, entries: Sorted, runs: Sequence[tuple[int, int]]) -> None:
        self._entries, self._runs = entries, runs

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return self._entries.read(*self._runs[index])


def _starts(entries: Entries, before: int, shift: int) -> NDArray[np.int64]:
    """Where each part of `entries` begins, and the end; they are equal in the bits `before` those from `shift` on."""
    count = 1 << (before - shift)
    digits = entries[:, 0] >> np.uint64(shift) & np.uint64(count - 1)
    return np.searchsorted(digits, np.arange(count + 1, dtype=np.uint64))


def _ordered(entries: Entries) -> Entries:
    return entries[np.lexsort(entries.T[::-1])]
