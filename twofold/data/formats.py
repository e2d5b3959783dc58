"""Any source of rows as records: which shape it has, what its columns are called, and where a row is at fault."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from twofold.data.faults import Fault, FaultError, nearest, quoted
from twofold.data.rows import Numbered, Row, digest, rows
from twofold.data.shapes import FIELDS, Shape, detect, parse, unknown
from twofold.errors import DataError
from twofold.records import Record, Source

_NO_COLUMNS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Table:
    """What a source holds: its records, the name of the shape that was detected, and a digest that changes with it.

    `sha256` is that of the file's bytes, or of the rows as JSON where the source is not one file.
    """

    records: list[Record]
    format: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Scan:
    """A table with everything that is wrong with it; `rows` counts the faulty ones too."""

    table: Table
    faults: list[Fault]
    rows: int


def read(
    source: str, *, columns: Mapping[str, str] = _NO_COLUMNS, split: str = "train", limit: int | None = None
) -> Table:
    """The records of a JSON, JSON-lines, CSV (also .gz), parquet or Arrow file, a folder of `datasets`, or a hub name.

    `columns` maps our field names to the source's, and chooses the shape where several fit. Raises DataError naming
    file, row and field of the first fault.
    """
    found = scan(source, columns=columns, split=split, limit=limit, patient=False)
    if not found.table.records:
        raise DataError("has no rows", where=source, remedy="check the file and the split")
    return found.table


def scan(
    source: str,
    *,
    columns: Mapping[str, str] = _NO_COLUMNS,
    split: str = "train",
    limit: int | None = None,
    patient: bool = True,
) -> Scan:
    """As `read`, but a `patient` scan collects the faults of rows; only a source that is not there raises DataError."""
    _refuse_unknown_fields(columns, source)
    make, summed = _Maker(source, columns), _Digest(source)
    records: list[Record] = []
    faults: list[Fault] = []
    count = 0
    for number, row in _limited(rows(source, split), limit):
        summed.add(row)
        made = make(number, row)
        count += _is_row(made)
        faults += _collected(made, patient)
        if not isinstance(made, list):
            records.append(made)
    table = Table(records, make.shape.name if make.shape else "unknown", source, summed.hexdigest())
    return Scan(table, [*faults, *make.remarks], count)


def _is_row(made: Record | list[Fault]) -> bool:
    return not isinstance(made, list) or any(f.row and f.check != "BOM" for f in made)


class _Maker:
    """Makes records of rows; the first row that fits a shape decides for the rows behind it."""

    def __init__(self, source: str, columns: Mapping[str, str]) -> None:
        self._source, self._columns = source, columns
        self.shape: Shape | None = None
        self.remarks: list[Fault] = []

    def __call__(self, number: int, row: Row | Fault) -> Record | list[Fault]:
        place = Source(self._source, number)
        named = row if isinstance(row, Fault) else _renamed(row, self._columns, place)
        if isinstance(named, Fault):
            return [named]
        self.shape = self.shape or detect(named, self._columns)
        return parse(self.shape, named, place, self.remarks) if self.shape else [unknown(named, place)]


def _collected(made: Record | list[Fault], patient: bool) -> list[Fault]:
    faults = made if isinstance(made, list) else []
    for fault in faults:
        if fault.severity == "error" and not patient:
            raise FaultError(fault)
    return faults


def _limited(numbered: Iterable[Numbered], limit: int | None) -> Iterable[Numbered]:
    taken = 0
    for number, row in numbered:
        if limit is not None and taken >= limit:
            return
        taken += not (isinstance(row, Fault) and row.severity == "warning")
        yield number, row


def _refuse_unknown_fields(columns: Mapping[str, str], source: str) -> None:
    for field in columns:
        if field not in FIELDS:
            near = nearest(field, FIELDS)
            remedy = f"did you mean `{near}`?" if near else f"fields are {quoted(FIELDS)}"
            raise DataError(f"`columns` names an unknown field `{field}`", where=source, remedy=remedy)


def _renamed(row: Row, columns: Mapping[str, str], source: Source) -> Row | Fault:
    for field, column in columns.items():
        if column not in row:
            near = nearest(column, map(str, row))
            remedy = f"did you mean `{near}`?" if near else f"the row has {quoted(map(str, row))}"
            reason = f"the column `{column}` is missing"
            return Fault(source.file, source.row, field, reason, remedy, check="missing field")
    kept = {k: v for k, v in row.items() if k not in columns.values()}
    return {**kept, **{field: row[column] for field, column in columns.items()}}


class _Digest:
    """The sha256 of a file, or else of the rows that pass by."""

    def __init__(self, source: str) -> None:
        self._known = digest(source)
        self._sum = hashlib.sha256()

    def add(self, row: Row | Fault) -> None:
        if self._known is None and not isinstance(row, Fault):
            line = json.dumps(row, sort_keys=True, ensure_ascii=True, default=str)
            self._sum.update(line.encode() + b"\n")

    def hexdigest(self) -> str:
        return self._known or self._sum.hexdigest()
