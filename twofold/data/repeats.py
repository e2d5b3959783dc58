"""What rows repeat: an earlier row, the opposite of another row, the prompt of a row of another source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from twofold.data.digests import Entries, Sorted, digest128
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.split import problem
from twofold.records import Labelled, Pair, Record, Source, completion_fields

_TURNED, _OPPOSED = 1, 2
"""Bits of a mark: which of two opposite rows this is, and whether it contradicts the other. Its other bits are those of
a digest of the row's numbers."""
_NEVER = np.uint64(2**64 - 1)


class Repeats:
    """Finds rows that repeat an earlier one exactly, and rows that contradict another one.

    A row and its opposite (the pair the other way round, a good completion as a bad one) have the same digest.
    """

    def __init__(self) -> None:
        self._entries, self._labels = Sorted(), False

    def see(self, record: Record) -> None:
        digest, mark = _entry(record)
        self._entries.add(digest, mark, record.source.row)
        self._labels = self._labels or isinstance(record, Labelled)

    def faults(self, source: str) -> Iterator[Issue]:
        """Duplicates at the later row; contradictions at both."""
        field, reason = ("label", "contradicts row {}") if self._labels else ("", "prefers what row {} rejects")
        remedy = "keep the row that is right"
        for part in self._entries:
            for first, row in _repeated(part):
                yield Issue(source, row, "", f"repeats row {first}", "remove the row", "warning", "duplicate")
            for other, row in _opposites(part):
                yield Issue(source, row, field, reason.format(other), remedy, "error", "contradiction")


def _entry(record: Record) -> tuple[bytes, int]:
    """The digest and the mark of a record."""
    parts = [type(record).__name__.encode(), digest128(record.prompt)]
    turned = opposed = False
    match record:
        case Pair():
            chosen, rejected = digest128(record.chosen), digest128(record.rejected)
            turned, opposed = chosen > rejected, record.probability is None and record.chosen != record.rejected
            parts += (rejected, chosen) if turned else (chosen, rejected)
            others = record.gold, record.probability, record.margin, record.weight
        case _:
            parts += [digest128(completion) for _, completion in completion_fields(record)]
            others = tuple(getattr(record, name, None) for name in ("scores", "margin", "probability", "weight"))
            if isinstance(record, Labelled):
                turned, opposed = record.desirable, record.probability is None
    mark = opposed * _OPPOSED + turned * _TURNED
    if any(other is not None for other in others):
        mark |= int.from_bytes(digest128(others)[:8]) & ~(_OPPOSED + _TURNED)
    return digest128(b"".join(parts)), mark


class Overlap:
    """Finds prompts that another source has: `other` sees that one's rows, and this the rows after them."""

    def __init__(self) -> None:
        self._entries, self.other = Sorted(), _Other(self)

    def see(self, record: Record, row: Row, side: int = 1) -> None:
        del row
        self._entries.add(digest128(problem(record)), side, record.source.row)

    def faults(self, source: str) -> Iterator[Issue]:
        remedy = "remove the row here or there: nothing is evaluated on what was trained on"
        for part in self._entries:
            for first, row in _overlaps(part):
                reason = f"is also at {Source(self.other.source, first)}"
                yield Issue(source, row, "prompt", reason, remedy, "error", "overlap")


class _Other:
    """The rows of the other source."""

    def __init__(self, of: Overlap) -> None:
        self._of, self.source = of, ""

    def see(self, record: Record, row: Row) -> None:
        self._of.see(record, row, side=0)
        self.source = record.source.file

    def faults(self, source: str) -> tuple[Issue, ...]:
        del source
        return ()


def _firsts(entries: Entries, columns: int) -> NDArray[np.int64]:
    """For each entry the first one with the same values in its first `columns`."""
    begins = np.ones(len(entries), bool)
    begins[1:] = (entries[1:, :columns] != entries[:-1, :columns]).any(1)
    return np.maximum.accumulate(np.where(begins, np.arange(len(entries)), 0))


def _repeated(part: Sequence[Entries]) -> Iterator[tuple[int, int]]:
    """Rows with the digest and the mark of an earlier row: the first such row, and the row."""
    known = dict[int, int]()
    for entries in part:
        first, row = _firsts(entries, 3), entries[:, 3].copy()
        if len(part) > 1:
            for place in np.unique(first).tolist():
                row[place] = known.setdefault(int(entries[place, 2]), int(row[place]))
        row = row[first]
        again = (first != np.arange(len(first))) | (row != entries[:, 3])
        yield from zip(row[again].tolist(), entries[again, 3].tolist(), strict=True)


def _opposites(part: Sequence[Entries]) -> Iterator[tuple[int, int]]:
    """Rows that have opposites: the first opposite, and the row."""
    one = np.full(2, _NEVER)
    for entries in part if len(part) > 1 else ():
        entries = entries[entries[:, 2] & np.uint64(_OPPOSED) > 0]
        np.minimum.at(one, (entries[:, 2] & np.uint64(_TURNED)).astype(np.int64), entries[:, 3])
    for entries in part:
        entries = entries[entries[:, 2] & np.uint64(_OPPOSED) > 0]
        group, turned = _firsts(entries, 2), (entries[:, 2] & np.uint64(_TURNED)).astype(np.int64)
        earliest = np.full((len(entries), 2), _NEVER)
        np.minimum.at(earliest, (group, turned), entries[:, 3])
        others = np.minimum(earliest[group, 1 - turned], one[1 - turned])
        opposed = others != _NEVER
        yield from zip(others[opposed].tolist(), entries[opposed, 3].tolist(), strict=True)


def _overlaps(part: Sequence[Entries]) -> Iterator[tuple[int, int]]:
    """Rows with the digest of a row of the other source: the first such row, and the row."""
    lowest = min(tuple(entries[0, 2:].tolist()) for entries in part) if len(part) > 1 else None
    for entries in part:
        sides = (
            entries[_firsts(entries, 2)][:, 2:]
            if lowest is None
            else np.tile(np.array(lowest, np.uint64), (len(entries), 1))
        )
        shared = (entries[:, 2] == 1) & (sides[:, 0] == 0)
        yield from zip(sides[shared, 1].tolist(), entries[shared, 3].tolist(), strict=True)
