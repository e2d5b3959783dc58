"""The faults of rows by the rows' numbers, in a temporary file, and what becomes of the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import astuple

from twofold.data.fault_store import opened, refusing
from twofold.data.issues import Issue

_OPENING = """
CREATE TABLE rows (row INTEGER PRIMARY KEY);
CREATE TABLE faults (row INT, fault TEXT);
CREATE INDEX by_row ON faults (row)"""


class RowFaults:
    """Rows, each with a list of faults, which may be empty. Raises DataError where the disk refuses them."""

    def __init__(self) -> None:
        with refusing():
            self._base = opened(_OPENING)
            self._base.execute("PRAGMA temp_store = FILE")

    @classmethod
    def of(cls, faults: Iterable[Issue]) -> RowFaults:
        """Those of `faults` that are a reason to leave a row out: not a byte order mark, which is not written again."""
        made = cls()
        for fault in faults:
            if fault.row and fault.check != "BOM":
                made.add(fault.row, [fault])
        return made

    def __contains__(self, row: int) -> bool:
        return self._base.execute("SELECT 1 FROM rows WHERE row = ?", (row,)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM rows").fetchone()[0])

    def __getitem__(self, row: int) -> list[Issue]:
        """The faults of a row in the order in which they were added; none for a row that is not there."""
        found = self._base.execute("SELECT fault FROM faults WHERE row = ? ORDER BY rowid", (row,))
        return [Issue(*json.loads(fault)) for (fault,) in found]

    def add(self, row: int, faults: Collection[Issue] = ()) -> None:
        """Add a row, or further faults of one."""
        with refusing():
            self._base.execute("INSERT OR IGNORE INTO rows VALUES (?)", (row,))
            told = [(row, json.dumps(astuple(fault))) for fault in faults]
            self._base.executemany("INSERT INTO faults VALUES (?, ?)", told)

    def counts(self) -> dict[str, int]:
        """How many faults of each kind, the most frequent first, equal ones as they came."""
        found = self._base.execute("SELECT fault FROM faults ORDER BY rowid")
        return dict(Counter(Issue(*json.loads(fault)).check for (fault,) in found).most_common())
