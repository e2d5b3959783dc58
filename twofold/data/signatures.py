"""MinHash signatures of rows, on disk, and the pairs of rows whose signatures are alike.

The signatures are those of `datasketch`. Its index of buckets is in memory, about 10 kB per row; here the buckets are
found by sorting the keys of one band, a range of them at a time. Memory does not grow with the rows; a row takes 728 or
1,228 bytes of disk (with one or two parts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from twofold.data.grams import Grams
from twofold.data.scratch import Scratch, Spool
from twofold.errors import RecipeError

BANDS, BAND = 25, 5
"""Two texts that share 80% of their n-grams have one of 25 equal bands of 5 values with a probability of 99.99%."""
PERMUTATIONS = BANDS * BAND
CHUNK = 4096
"""Rows that are written and compared together, and n-grams that are hashed together."""
AT_ONCE = 1 << 16
"""Keys of a band that are sorted together."""
RANGE = 1 << 18
"""Keys of a band that are in memory, about; of more rows, one range of keys after another."""
Values = NDArray[np.uint32]
_KEY = np.dtype([("key", np.uint64), ("row", np.int64), ("exact", np.uint64)])
_BUCKET = np.dtype([("key", np.uint64), ("first", _KEY), ("last", _KEY)])
_MATCH = np.dtype([("row", np.int64), ("likeness", np.float32)])
"""Of a row: the earlier row that it is like, counted from 1, and how like; 0 and 0 where there is none."""
Structs = NDArray[np.void]


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
        self._waiting, self._exact = list[Values](), Spool(np.uint64)
        self._values, self._keys, self._matches = Scratch(), Scratch(), Scratch()

    def __len__(self) -> int:
        return len(self._exact)

    def add(self, parts: Sequence[Grams], exact: int) -> None:
        """Add a row with the grams of its parts. Rows with the same `exact` are equal, and no pair of `alike`. Raises
        DataError where the disk refuses it."""
        self._waiting.append(np.stack([self._signature(part) for part in parts]))
        self._exact.append(exact)
        if len(self._waiting) == CHUNK:
            self._write()

    def _signature(self, part: Grams) -> Values:
        made = self._empty.copy()
        for begin in range(0, len(part), CHUNK):
            made.update_batch((part[begin : begin + CHUNK] >> np.uint64(32)).tolist())
        return made.hashvalues

    def _write(self) -> None:
        """Write the waiting rows: their values, row by row, and the keys of their bands, band by band."""
        values = np.stack(self._waiting)
        keys = np.zeros((BANDS, CHUNK), np.uint64)
        whole = np.ascontiguousarray(values.min(1)).reshape(len(values), BANDS, BAND)
        for column in range(BAND):
            keys[:, : len(values)] = keys[:, : len(values)] * np.uint64(0x9E3779B97F4A7C15) + whole[:, :, column].T
        self._values.append(values.tobytes())
        self._keys.append(keys.tobytes())
        self._waiting.clear()

    def alike(self, threshold: float, behind: int = 0) -> Iterator[tuple[int, int, float]]:
        """For each row from `behind` on that is like an earlier one: the earlier one, itself, and their likeness.

        Without `behind` the earlier row is any, otherwise one before `behind`. The likeness is the estimated Jaccard
        similarity of the least similar part; its standard error at 0.8 is 0.036.
        """
        if self._waiting:
            self._write()
        self._matches = Scratch()
        for band in range(BANDS):
            for part in range(-(-len(self) // RANGE)):
                buckets = np.empty(0, _BUCKET)
                for keys in self._part(band, part):
                    pairs, buckets = _paired(buckets, keys)
                    self._compare([p[_admitted(p, behind)] for p in pairs], threshold)
        for begin in range(0, len(self), AT_ONCE):
            matches = self._matched(begin)
            for place in np.flatnonzero(matches["row"]).tolist():
                yield int(matches["row"][place]) - 1, begin + place, float(matches["likeness"][place])

    def _part(self, band: int, part: int) -> Iterator[Structs]:
        """The keys of a band that are in one range, about `AT_ONCE` at a time, in order of rows."""
        ranges, some, size = -(-len(self) // RANGE), list[Structs](), 8 * CHUNK
        for begin in range(0, len(self), CHUNK):
            end = min(begin + CHUNK, len(self))
            keys = np.frombuffer(self._keys.read((begin // CHUNK * BANDS + band) * size, size), np.uint64)[
                : end - begin
            ]
            inside = np.flatnonzero((keys >> np.uint64(32)) * np.uint64(ranges) >> np.uint64(32) == part)
            made = np.empty(len(inside), _KEY)
            made["key"], made["row"] = keys[inside], begin + inside
            made["exact"] = self._exact.read(begin, end)[inside]
            some.append(made)
            count = sum(map(len, some))
            if count >= AT_ONCE or (count and end == len(self)):
                yield np.concatenate(some)
                some.clear()

    def _compare(self, pairs: Sequence[NDArray[np.int64]], threshold: float) -> None:
        """Note which rows are like the earlier ones that they are in `pairs` with; the last pair of a row decides."""
        for block in np.unique(np.concatenate(pairs)[:, 1] // AT_ONCE).tolist():
            begin = block * AT_ONCE
            before = self._matched(begin)
            after = before.copy()
            for each in pairs:
                inside = each[each[:, 1] // AT_ONCE == block]
                new = inside[before["row"][inside[:, 1] - begin] == 0]
                for first, second in (new[at : at + CHUNK].T for at in range(0, len(new), CHUNK)):
                    share = self._likeness(first, second)
                    close = share >= threshold
                    after["row"][second[close] - begin] = first[close] + 1
                    after["likeness"][second[close] - begin] = share[close]
            self._matches.put(after.tobytes(), begin * _MATCH.itemsize)

    def _matched(self, begin: int) -> Structs:
        """What is known of `AT_ONCE` rows from `begin` on."""
        found = np.zeros(AT_ONCE, _MATCH)
        read = np.frombuffer(self._matches.read(begin * _MATCH.itemsize, found.nbytes), _MATCH)
        found[: len(read)] = read
        return found

    def _likeness(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        return (self._read(first) == self._read(second)).mean(2).min(1)

    def _read(self, rows: NDArray[np.int64]) -> Values:
        size = 4 * self._parts * PERMUTATIONS
        read = b"".join(self._values.read(row * size, size) for row in rows.tolist())
        return np.frombuffer(read, np.uint32).reshape(-1, self._parts, PERMUTATIONS)


def _paired(buckets: Structs, keys: Structs) -> tuple[list[NDArray[np.int64]], Structs]:
    """Pairs of rows with the same key: each row with the one before it, and with the first of all; and the `buckets`
    of all keys so far. `keys` are of later rows than those in `buckets`."""
    keys = keys[np.argsort(keys["key"], kind="stable")]
    begins = np.ones(len(keys), bool)
    begins[1:] = keys["key"][1:] != keys["key"][:-1]
    starts, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    made = np.empty(len(starts), _BUCKET)
    made["key"], made["first"] = keys["key"][starts], keys[starts]
    made["last"] = keys[np.append(starts[1:], len(keys)) - 1]
    before = keys[np.maximum(np.arange(len(keys)) - 1, 0)]
    place = np.minimum(np.searchsorted(buckets["key"], made["key"]), max(0, len(buckets) - 1))
    old = np.flatnonzero(buckets["key"][place] == made["key"]) if len(buckets) else starts[:0]
    before[starts] = keys[starts]
    before[starts[old]] = buckets["last"][place[old]]
    made["first"][old] = buckets["first"][place[old]]
    buckets["last"][place[old]] = made["last"][old]
    merged = np.concatenate([buckets, np.delete(made, old)])
    firsts = made["first"][group]
    several = np.stack([firsts["row"], keys["row"]], 1)[
        (firsts["exact"] != keys["exact"]) & (firsts["row"] != before["row"])
    ]
    pairs = [np.stack([before["row"], keys["row"]], 1)[before["exact"] != keys["exact"]], several]
    return pairs, merged[np.argsort(merged["key"])]


def _admitted(pairs: NDArray[np.int64], behind: int) -> NDArray[np.bool_]:
    first, second = pairs.T
    return (second >= behind) & ((first < behind) | (behind == 0))
