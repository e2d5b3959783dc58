"""Any source of rows as records: which shape it has, what its columns are called, and where a row is at fault."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twofold.data.issues import Issue, IssueError, nearest, quoted
from twofold.data.readers import Numbered, Row, digest, rows
from twofold.data.shapes import FIELDS, Shape, detect, parse, unknown
from twofold.errors import DataError
from twofold.records import Record, Source, completion_fields

_NO_COLUMNS: Mapping[str, str] = {}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """What a source holds: its records, the name of the shape that was detected, and a digest that changes with it.

    `sha256` is that of the file's bytes, or of the rows as JSON where the source is not one file.
    """

    records: Sequence[Record]
    format: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Scan:
    """A table with everything that is wrong with it; `rows` counts the faulty ones too."""

    table: Table
    faults: list[Issue]
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
    stream = Stream(source, columns=columns, split=split, limit=limit)
    records: list[Record] = []
    faults: list[Issue] = []
    count = 0
    for made in stream:
        count += made.is_row
        faults += _collected(made, patient)
        if made.record is not None:
            records.append(made.record)
    table = Table(records, stream.format, source, stream.sha256)
    return Scan(table, [*faults, *stream.remarks], count)


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """What became of a row: its record, or its faults (a warning that precedes a row stands alone).

    `row` is what was read, None where that was no row.
    """

    number: int
    row: Row | None
    record: Record | None
    faults: Sequence[Issue] = ()

    @property
    def is_row(self) -> bool:
        return self.record is not None or any(f.row and f.check != "BOM" for f in self.faults)


class Stream:
    """One pass over a source, row by row, that holds none of them.

    Only a source that is not there raises DataError, and does so at once. `remarks` are complete at the end, and so is
    `format`.
    """

    def __init__(
        self,
        source: str,
        *,
        columns: Mapping[str, str] = _NO_COLUMNS,
        split: str = "train",
        limit: int | None = None,
        stream: bool = False,
        sha256: str | None = None,
    ) -> None:
        """`sha256` is the file's, where it is known already."""
        _refuse_unknown_fields(columns, source)
        self.source, self._limit = source, limit
        self._rows = rows(source, split, stream)
        self._make = _Maker(source, columns)
        self._sum = _Digest(source, sha256)

    def __iter__(self) -> Iterator[ParsedRow]:
        for number, row in _limited(self._rows, self._limit):
            self._sum.add(row)
            made = self._make(number, row)
            read = None if isinstance(row, Issue) else row
            yield ParsedRow(number, read, None, made) if isinstance(made, list) else ParsedRow(number, read, made)

    @property
    def remarks(self) -> list[Issue]:
        """Warnings about rows that are used."""
        return self._make.remarks

    @property
    def format(self) -> str:
        """The name of the shape that was detected."""
        return self._make.shape.name if self._make.shape else "unknown"

    @property
    def sha256(self) -> str:
        """Of the file's bytes, or of the rows that have been read."""
        return self._sum.hexdigest()


class _Maker:
    """Makes records of rows; the first row that fits a shape decides for the rows behind it."""

    def __init__(self, source: str, columns: Mapping[str, str]) -> None:
        self._source, self._columns = source, columns
        self.shape: Shape | None = None
        self.remarks: list[Issue] = []

    def __call__(self, number: int, row: Row | Issue) -> Record | list[Issue]:
        place = Source(self._source, number)
        named = row if isinstance(row, Issue) else _renamed(row, self._columns, place)
        if isinstance(named, Issue):
            return [named]
        self.shape = self.shape or detect(named, self._columns)
        if self.shape is None:
            return [unknown(named, place)]
        made = parse(self.shape, named, place, self.remarks)
        return made if isinstance(made, list) else _half_characters(made) or made


def _half_characters(record: Record) -> list[Issue]:
    """Halves of characters outside the basic plane, which no tokenizer takes: JSON may escape them one by one."""
    found = ((field, _SURROGATE.search(text)) for field, text in texts(record))
    return [
        Issue(
            *(record.source.file, record.source.row, field, f"holds half a character, U+{ord(half[0]):04X}"),
            remedy="write the text again from its source: it was cut or escaped inside a character",
            check="bad UTF-8",
        )
        for field, half in found
        if half
    ]


def texts(record: Record) -> Iterator[tuple[str, str]]:
    """Every text of a record behind the name of its field."""
    if isinstance(record.prompt, str):
        yield "prompt", record.prompt
    else:
        yield from (("prompt", m.content) for m in record.prompt)
    yield from completion_fields(record)


def _collected(made: ParsedRow, patient: bool) -> Sequence[Issue]:
    for fault in made.faults:
        if fault.severity == "error" and not patient:
            raise IssueError(fault)
    return made.faults


def _limited(numbered: Iterable[Numbered], limit: int | None) -> Iterable[Numbered]:
    taken = 0
    for number, row in numbered:
        if limit is not None and taken >= limit:
            return
        taken += not (isinstance(row, Issue) and row.severity == "warning")
        yield number, row


def _refuse_unknown_fields(columns: Mapping[str, str], source: str) -> None:
    for field in columns:
        if field not in FIELDS:
            near = nearest(field, FIELDS)
            remedy = f"did you mean `{near}`?" if near else f"fields are {quoted(FIELDS)}"
            raise DataError(f"`columns` names an unknown field `{field}`", where=source, remedy=remedy)


def _renamed(row: Row, columns: Mapping[str, str], source: Source) -> Row | Issue:
    for field, column in columns.items():
        if column not in row:
            near = nearest(column, map(str, row))
            remedy = f"did you mean `{near}`?" if near else f"the row has {quoted(map(str, row))}"
            reason = f"the column `{column}` is missing"
            return Issue(source.file, source.row, field, reason, remedy, check="missing field")
    kept = {k: v for k, v in row.items() if k not in columns.values()}
    return {**kept, **{field: row[column] for field, column in columns.items()}}


class _Digest:
    """The sha256 of a file, or else of the rows that pass by."""

    def __init__(self, source: str, known: str | None) -> None:
        self._source, self._is_file, self._known = source, Path(source).is_file(), known
        self._sum = hashlib.sha256()

    def add(self, row: Row | Issue) -> None:
        if not self._is_file and not isinstance(row, Issue):
            line = json.dumps(row, sort_keys=True, ensure_ascii=True, default=str)
            self._sum.update(line.encode() + b"\n")

    def hexdigest(self) -> str:
        if self._known is None and self._is_file:
            self._known = digest(self._source)
        return self._known or self._sum.hexdigest()
