"""Any source of rows as records: which shape it has, what its columns are called, and where a row is at fault."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from twofold.data.issues import Issue, IssueError, Texts, nearest, quoted
from twofold.data.json_rows import Numbered, Row
from twofold.data.readers import digest, is_file, rows
from twofold.data.reading import Reading, RowBounds
from twofold.data.shapes import FIELDS, Shape, detect, parse, unknown
from twofold.errors import DataError
from twofold.records import Record, Source, completion_fields, text_of

MOST_ERRORS = 200_000
"""Faulty rows after which a source is not read on."""
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
    source: str | Reading, *, columns: Mapping[str, str] = _NO_COLUMNS, split: str = "train", limit: int | None = None
) -> Table:
    """The records of a JSON, JSON-lines, CSV (also .gz), parquet or Arrow file, a folder of `datasets`, or a hub name.

    `columns` maps twofold's field names to the source's, and selects the format if several match. A `Reading` defines
    this and more. Raises DataError naming file, row and field of the first fault.
    """
    source = str(source) if isinstance(source, PurePath) else source
    stream = Stream(reading_of(source, columns, split, limit))
    records: list[Record] = []
    for made in stream:
        fault = next((fault for fault in made.faults if fault.severity == "error"), None)
        if fault is not None:
            raise IssueError(fault)
        if made.record is not None:
            records.append(made.record)
    if not records:
        raise DataError("has no rows", where=stream.source, remedy="check the file and the split")
    return Table(records, stream.format, stream.source, stream.sha256)


def scan(
    source: str | Reading, *, columns: Mapping[str, str] = _NO_COLUMNS, split: str = "train", limit: int | None = None
) -> Scan:
    """As `read`, but collects the faults of rows; only a source that is not there raises DataError."""
    stream = Stream(reading_of(source, columns, split, limit))
    records: list[Record] = []
    faults: list[Issue] = []
    count = 0
    for made in stream:
        count += made.is_row
        faults += made.faults
        if made.record is not None:
            records.append(made.record)
    table = Table(records, stream.format, stream.source, stream.sha256)
    return Scan(table, [*faults, *stream.remarks], count)


def reading_of(
    source: str | Reading, columns: Mapping[str, str] = _NO_COLUMNS, split: str = "train", limit: int | None = None
) -> Reading:
    """A source and how to read it, which a `Reading` already contains."""
    return source if isinstance(source, Reading) else Reading(source, columns, split, limit)


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """The result of a row: its record, or its errors (a warning before a row has no record).

    `row` is what was read, None where that was no row. `texts` are those of the record.
    """

    number: int
    row: Row | None
    record: Record | None
    faults: Sequence[Issue] = ()
    texts: Texts = ()

    @property
    def is_row(self) -> bool:
        return self.record is not None or any(f.row and f.check != "BOM" for f in self.faults)


class Stream:
    """One pass over a source, row by row, that holds none of them.

    Only a source that is not there raises DataError, and does so at once. `remarks` (warnings about rows that are
    used) are complete at the end, and so is `format`.
    """

    def __init__(
        self,
        source: str | Reading,
        *,
        columns: Mapping[str, str] = _NO_COLUMNS,
        split: str = "train",
        limit: int | None = None,
        sha256: str | None = None,
    ) -> None:
        """`sha256` is the file's, where it is known already."""
        reading = reading_of(source, columns, split, limit)
        _refuse_unknown_fields(reading.columns, reading.source)
        self.source, self._reading = reading.source, reading
        self._rows = rows(self.source, reading.split, reading.stream, reading.ignore, reading.bounds)
        self._shape: Shape | None = None
        self.remarks: list[Issue] = []
        self._sha256, self._sum = sha256, None if is_file(self.source) else hashlib.sha256()

    def __iter__(self) -> Iterator[ParsedRow]:
        errors = 0
        for number, row in _limited(self._rows, self._reading.limit):
            made = self._made(number, row)
            read = None if isinstance(row, Issue) else row
            if self._sum and read is not None:
                line = json.dumps(read, sort_keys=True, default=str)
                self._sum.update(line.encode() + b"\n")
            if not isinstance(made, list):
                found = texts(made)
                halves = _half_characters(made, found)
                if not halves:
                    yield ParsedRow(number, read, made, (), found)
                    continue
                made = halves
            errors += 1
            if errors > MOST_ERRORS:
                yield ParsedRow(number, None, None, [self._too_many(number)])
                return
            yield ParsedRow(number, read, None, made)

    def _made(self, number: int, row: Row | Issue) -> Record | list[Issue]:
        """The row's record, or its faults; the first row that fits a shape decides for the rows behind it."""
        place = Source(self.source, number)
        columns = self._reading.columns
        named = row if isinstance(row, Issue) or not columns else _renamed(row, columns, place)
        if isinstance(named, Issue):
            return [named]
        self._shape = self._shape or detect(named, columns)
        if self._shape is None:
            return [unknown(named, place)]
        large = _too_large(self._shape, named, place, self._reading.bounds)
        return large or parse(self._shape, named, place, self.remarks, columns, self._reading.whole)

    def _too_many(self, number: int) -> Issue:
        reason = f"has more than {MOST_ERRORS:,} faulty rows; row {number} and what follows was not read"
        return Issue(self.source, 0, "", reason, "fix the first ones: all may have one cause", check="too many errors")

    @property
    def format(self) -> str:
        """The name of the shape that was detected."""
        return self._shape.name if self._shape else "unknown"

    @property
    def sha256(self) -> str:
        """Of the file's bytes, or of the rows that have been read."""
        if self._sum:
            return self._sum.hexdigest()
        self._sha256 = self._sha256 or digest(self.source) or ""
        return self._sha256


def _too_large(shape: Shape, row: Row, place: Source, bounds: RowBounds) -> list[Issue]:
    """Lists and texts beyond the `bounds`, among what the shape reads and in the members of its objects."""
    faults = list[Issue]()
    for key in (*shape.keys, *shape.optional):
        value = row.get(key)
        if value is None or (isinstance(value, str) and len(value) <= bounds.bytes):
            continue
        parts = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        for name, part in parts.items():
            if isinstance(part, str) and len(part) > bounds.bytes:
                faults.append(_beyond(place, name, len(part), "characters", bounds.bytes, "bytes"))
            elif isinstance(part, list) and len(part) > bounds.items:
                faults.append(_beyond(place, name, len(part), "items", bounds.items, "items"))
    return faults


def _beyond(place: Source, name: str, count: int, what: str, most: int, setting: str) -> Issue:
    reason = f"has {count:,} {what}, at most {most:,} are read"
    remedy = f"remove the row; where it is meant so, raise data.bounds.{setting} (--row-{setting})"
    return Issue(place.file, place.row, name, reason, remedy, check="row too long")


def _half_characters(record: Record, read: Texts) -> list[Issue]:
    """Halves of characters outside the basic plane, which no tokenizer takes: JSON may escape them one by one."""
    unusual = [(field, text) for field, text in read if not text.isascii()]
    if not unusual:
        return []
    found = ((field, _SURROGATE.search(text)) for field, text in unusual)
    return [
        Issue(
            *(record.source.file, record.source.row, field, f"holds half a character, U+{ord(half[0]):04X}"),
            remedy="write the text again from its source: it was cut or escaped inside a character",
            check="bad UTF-8",
        )
        for field, half in found
        if half
    ]


def texts(record: Record) -> Texts:
    """Every text of a record behind the name of its field; those of the prompt come first."""
    if isinstance(record.prompt, str):
        asked: Texts = (("prompt", record.prompt),)
    else:
        parts = (text for m in record.prompt for text in ((m.content, m.more) if m.more else (m.content,)))
        asked = tuple(("prompt", text) for text in parts)
    return (*asked, *[(field, text_of(told)) for field, told in completion_fields(record)])


def _limited(numbered: Iterable[Numbered], limit: int | None) -> Iterable[Numbered]:
    """What comes before row `limit` is over."""
    return numbered if limit is None else _first(numbered, limit)


def _first(numbered: Iterable[Numbered], limit: int) -> Iterable[Numbered]:
    taken = 0
    for number, row in numbered:
        if taken >= limit:
            return
        taken += not (isinstance(row, Issue) and row.severity == "warning")
        yield number, row


def _refuse_unknown_fields(columns: Mapping[str, str], source: str) -> None:
    for field in columns:
        if field not in FIELDS:
            near = nearest(field, FIELDS)
            remedy = f"did you mean `{near}`?" if near else f"fields are {quoted(FIELDS, len(FIELDS))}"
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
