"""The faults of a source: few in memory, many on disk, in order of rows in both cases."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import overload

from twofold.data.issues import Issue
from twofold.data.scratch import refused

IN_MEMORY = 10_000
"""Faults of a source that are in memory; as soon as there are more, all are on disk."""
_PACE = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
_OPENING = """
CREATE TABLE faults (other INT, row INT, severity TEXT, spoils INT, fault TEXT)"""
_AT_ONCE = 1000


class FaultStore:
    """Takes the faults of `source` as they come. Kinds of errors that are in `accept` become warnings."""

    def __init__(self, source: str, accept: Collection[str] = ()) -> None:
        self._source, self._accept = source, accept
        self._waiting = list[tuple[bool, int, Issue, bool]]()
        self._base: sqlite3.Connection | None = None
        self._counts = Counter[tuple[str, str]]()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, faults: Iterable[Issue], *, spoils: bool = True, last: bool = False) -> None:
        """Add faults. An error `spoils` a record, unless none was made. What comes `last` is behind all rows."""
        for fault in faults:
            if fault.check in self._accept:
                fault = replace(fault, severity="warning")
            self._counts[fault.severity, fault.check] += 1
            self._waiting.append((last or fault.file != self._source, fault.row, fault, spoils))
            if len(self._waiting) >= (IN_MEMORY if self._base is None else _AT_ONCE):
                self._write()

    def _write(self) -> None:
        rows = [(o, row, f.severity, s, json.dumps(astuple(f))) for o, row, f, s in self._waiting]
        with refusing():
            self._base = self._base or opened(_OPENING)
            self._base.executemany("INSERT INTO faults VALUES (?, ?, ?, ?, ?)", rows)
        self._waiting.clear()

    def in_order(self) -> Sequence[Issue]:
        """All faults by row, those of one row as they came; those of other files behind."""
        if self._base is None:
            return tuple(f for _, _, f, _ in sorted(self._waiting, key=lambda each: each[:2]))
        self._write()
        with refusing():
            self._base.execute("CREATE INDEX IF NOT EXISTS by_row ON faults (other, row)")
        return StoredFaults(self._base, self._counts)

    def spoiled(self) -> int:
        """How many rows of which a record was made have an error."""
        if self._base is None:
            return len({r for other, r, f, spoils in self._waiting if f.severity == "error" and r and spoils > other})
        self._write()
        where = "severity = 'error' AND row > 0 AND spoils AND NOT other"
        return self._base.execute(f"SELECT count(DISTINCT row) FROM faults WHERE {where}").fetchone()[0]


def opened(tables: str) -> sqlite3.Connection:
    """A database with these tables in a file without a name."""
    handle, path = tempfile.mkstemp()
    os.close(handle)
    try:
        base = sqlite3.connect(path, isolation_level=None)
        base.executescript(_PACE + tables)
        return base
    finally:
        os.unlink(path)


@contextmanager
def refusing() -> Iterator[None]:
    """Raises DataError instead of the error of a disk that takes no more."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise refused(getattr(error, "strerror", None) or str(error)) from None


class StoredFaults(Sequence[Issue]):
    """Faults on disk, in order: all, or those of one severity."""

    def __init__(self, base: sqlite3.Connection, counts: Counter[tuple[str, str]], severity: str = "") -> None:
        self._base, self._severity = base, severity
        self.counts = Counter({key: n for key, n in counts.items() if severity in ("", key[0])})

    def of(self, severity: str) -> StoredFaults:
        return StoredFaults(self._base, self.counts, severity)

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[Issue]:
        return self._select(-1, 0)

    @overload
    def __getitem__(self, index: int) -> Issue: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Issue]: ...
    def __getitem__(self, index: int | slice) -> Issue | Sequence[Issue]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(self._select(1, places))
        if places.step != 1:
            return [self[place] for place in places]
        return tuple(self._select(len(places), places.start))

    def _select(self, number: int, begin: int) -> Iterator[Issue]:
        where = "WHERE ? IN ('', severity) ORDER BY other, row, rowid LIMIT ? OFFSET ?"
        found = self._base.execute(f"SELECT fault FROM faults {where}", (self._severity, number, begin))
        return (Issue(*json.loads(fault)) for (fault,) in found)


def of_severity(faults: Sequence[Issue], severity: str) -> Sequence[Issue]:
    """The errors, or the warnings, in order."""
    if isinstance(faults, StoredFaults):
        return faults.of(severity)
    return tuple(fault for fault in faults if fault.severity == severity)


def counts_of(faults: Sequence[Issue]) -> dict[tuple[str, str], int]:
    """How many faults of each severity and kind, most frequent first, equal ones by the first row."""
    counts = faults.counts if isinstance(faults, StoredFaults) else Counter((f.severity, f.check) for f in faults)
    return dict(counts.most_common())
