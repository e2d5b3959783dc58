"""Writes the clean rows of a source to a file, in their format, and the others to a second file with the reasons.

What can be repaired without a change of meaning (`repairs.py`) is repaired; the source itself stays as it is.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from twofold.data.issues import Issue, quoted
from twofold.data.json_rows import Row
from twofold.data.readers import READ_ERRORS, is_file, opened, rows
from twofold.data.reading import Reading
from twofold.data.remote import located
from twofold.data.repairs import Naming, Repaired, is_percent, repaired
from twofold.data.row_faults import RowFaults
from twofold.data.scratch import Spool
from twofold.data.unpacking import Allowance, UnpackedError, bounded
from twofold.data.validate import Report
from twofold.disk import PRIVATE_FILE
from twofold.errors import DataError

_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv")
KNOWN = (*_ENDINGS, *(f"{e}.gz" for e in _ENDINGS))
LEFT_OUT = ".left-out.jsonl"
MOST_COLUMNS = 1000
"""Of a file of CSV."""
_WIDE = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
"""Encodings that a byte order mark proves, the longer marks first."""
_WRITTEN = [("row", np.int64), ("changed", np.bool_)]
"""A row as it was written: its number in the source, and whether a repair changed it."""

Check = Callable[[str], Report]
"""How a file is judged: the source itself, and then what was written of it."""


@dataclass(frozen=True)
class Fixed:
    """What was written, and of what kinds the faults of the rows left out are (`reasons`, the most frequent first).

    `beside` is not there where no row was left out. `repairs` are those of the rows that were written, by kind.
    """

    out: str
    beside: str
    rows_left: int
    left_out: int
    reasons: Mapping[str, int]
    repairs: Mapping[str, Repaired] = field(default_factory=dict[str, Repaired])


def fix(report: Report, out: str, check: Check, reading: Reading | None = None) -> Fixed:
    """Write the rows of the source of `report`, repaired where that is possible, to `out`, and those that stay at fault
    with their errors to a file next to it. `reading` defines how the source was read; ignored keys are written too.

    `check` judges what was written, until no row of it is at fault: a row may be the first of its shape, or one of
    several. A file is there whole or not at all. Raises DataError where nothing is left, or the whole file is at fault.
    """
    _refuse_name(out)
    how = replace(reading or Reading(report.source), ignore=())
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with _in_utf8(how, Path(out).parent) as (read, encoding):
        if encoding:
            report = check(read.source)
        _refuse_whole(report, how.source)
        work = _Work(report, check, read)
        written = work.write(Path(out), Path(out + LEFT_OUT))
    whole = {f"{encoding} written as UTF-8": Repaired(1, 0, "", encoding, "utf-8")} if encoding else {}
    if marks := report.counts.get("BOM"):
        row = next(f.row for f in report.faults if f.check == "BOM")
        whole["byte order mark removed"] = Repaired(marks, row, "", "", "")
    return replace(written, repairs={**whole, **written.repairs})


class _Work:
    """A source on its way to a file: the faults of its rows as read, and the rows that are `left` out so far. All that
    there is one of for each row is in temporary files."""

    def __init__(self, report: Report, check: Check, how: Reading) -> None:
        self._check, self._how, self._source = check, how, report.source
        self._faults, self._left = RowFaults.of(report.faults), RowFaults()
        self._as_read = RowFaults()
        """Rows without a fault that a repair would give one: they stay as they are."""
        self._names = Naming(how.columns, self._percent(report))
        self._made, self._written_rows = dict[str, Repaired](), Spool(_WRITTEN)

    def _percent(self, report: Report) -> bool:
        mistyped = report.faults if report.counts.get("mistyped field") else ()
        if not any(f.field == "probability" and f.check == "mistyped field" for f in mistyped):
            return False
        key = Naming(self._how.columns)["probability"]
        return is_percent(row.get(key) for _, row in _rows(self._how) if not isinstance(row, Issue))

    def write(self, target: Path, beside: Path) -> Fixed:
        """Both files, when no row of the first is at fault."""
        written = target.with_name(f".{os.getpid()}.{target.name}")
        listed = target.with_name(f".{os.getpid()}.{beside.name}")
        try:
            while True:
                self._write(written)
                more = RowFaults.of(self._check(str(written)).faults)
                if not len(more):
                    break
                self._judge(more, written)
            if len(self._left):
                _list(_rows(self._how), self._left, listed)
                os.replace(listed, beside)
            os.replace(written, target)
        finally:
            written.unlink(missing_ok=True)
            listed.unlink(missing_ok=True)
        rows, left, reasons = len(self._written_rows), len(self._left), self._left.counts()
        return Fixed(str(target), str(beside), rows, left, reasons, dict(self._made))

    def _write(self, path: Path) -> None:
        name = path.name.lower().removesuffix(".gz")
        columns = self._columns() if name.endswith(".csv") else ()
        self._made.clear()
        self._written_rows = Spool(_WRITTEN)
        _write(self._clean(), path, columns)
        if not len(self._written_rows):
            csv_only = name.endswith(".csv") and len(self._faults) < len(self._left)
            remedy = (
                "CSV has no lists but chats: name an output that ends in .jsonl"
                if csv_only
                else "see `twofold data check`"
            )
            raise DataError("no row is without faults", where=self._source, remedy=remedy)

    def _columns(self) -> Collection[str]:
        """The names of all fields of the rows to write, in the order in which they come. Raises DataError for more than
        a table has."""
        names = dict[str, None]()
        for row in self._clean():
            names.update(dict.fromkeys(row))
            if len(names) > MOST_COLUMNS:
                what, remedy = f"has more than {MOST_COLUMNS:,} different fields", "name an output that ends in .jsonl"
                raise DataError(what, where=self._source, remedy=remedy)
        return names

    def _clean(self) -> Iterator[Row]:
        for number, row in _rows(self._how):
            if number in self._left:
                continue
            faults = self._faults[number]
            if isinstance(row, Issue):
                self._left.add(number, faults)
                continue
            lost = number in self._as_read or any(f.check == "contradiction" for f in faults)
            after, made = (row, dict[str, Repaired]()) if lost else repaired(row, self._names, faults)
            if faults and not made:
                self._left.add(number, faults)
                continue
            for kind, repair in made.items():
                first = self._made.get(kind, replace(repair, count=0, row=number))
                self._made[kind] = replace(first, count=first.count + 1)
            self._written_rows.append((number, bool(made)))
            yield after

    def _judge(self, more: RowFaults, written: Path) -> None:
        """Leave out what is at fault as written, or write it as it was read."""
        places = (place for place, _ in _rows(replace(self._how, source=str(written))))
        rows = (row for block in self._written_rows.blocks() for row in block.tolist())
        for place, (number, changed) in zip(places, rows, strict=True):
            if place not in more:
                continue
            if changed and number not in self._faults:
                self._as_read.add(number)
            else:
                self._left.add(number, [*self._faults[number], *more[place]])


@contextmanager
def _in_utf8(how: Reading, folder: Path) -> Iterator[tuple[Reading, str]]:
    """The reading of a copy of a file in UTF-16 or UTF-32, and its encoding; else `how` itself, and no encoding."""
    source = located(how.source)
    encoding = _encoding(source) if is_file(how.source) else ""
    if not encoding:
        yield how, ""
        return
    copy = folder / f".{os.getpid()}.utf-8.{source.name.lower().removesuffix('.gz').removesuffix('.zst')}"
    try:
        _copy(source, copy, encoding, how.bounds.growth)
        yield replace(how, source=str(copy)), encoding
    finally:
        copy.unlink(missing_ok=True)


def _copy(source: Path, copy: Path, encoding: str, growth: int) -> None:
    try:
        with opened(source) as packed, bounded(packed, Allowance(source, growth)) as stream, _written_to(copy) as out:
            for part in codecs.iterdecode(iter(lambda: stream.read(1 << 20), b""), encoding):
                out.write(part)
    except (UnicodeError, UnpackedError, *READ_ERRORS):
        what = f"begins as {encoding} and cannot be read as such"
        raise DataError(what, where=str(source), remedy="save it as UTF-8") from None


def _encoding(path: Path) -> str:
    try:
        with opened(path) as stream:
            head = stream.read(4)
    except READ_ERRORS:
        return ""
    return next((encoding for mark, encoding in _WIDE.items() if head.startswith(mark)), "")


def _refuse_name(out: str) -> None:
    if not out.lower().endswith(KNOWN):
        raise DataError("unknown kind of file to write", where=out, remedy=f"end its name in one of {quoted(KNOWN)}")
    if Path(out).exists():
        raise DataError("is there already", where=out, remedy="name a new file")


def _refuse_whole(report: Report, source: str) -> None:
    whole = next((f for f in report.errors if not f.row), None)
    if whole is not None:
        where = source if whole.file == report.source and not whole.field else whole.where
        raise DataError(whole.reason, where=where, remedy=whole.remedy)


def _rows(how: Reading) -> Iterator[tuple[int, Row | Issue]]:
    """Rows, and errors instead of a row, but not the warnings before a row."""
    found = rows(how.source, how.split, bounds=how.bounds)
    return ((n, row) for n, row in found if not isinstance(row, Issue) or row.severity == "error")


def _write(clean: Iterator[Row], path: Path, columns: Collection[str]) -> None:
    name = path.name.lower().removesuffix(".gz")
    with _written_to(path) as stream:
        if name.endswith(".csv"):
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in clean)
            return
        opening, between, closing = ("[\n", ",\n", "\n]\n") if name.endswith(".json") else ("", "\n", "\n")
        before = opening
        for row in clean:
            stream.write(before + _shown(row))
            before = between
        stream.write(closing)


def _list(numbered: Iterator[tuple[int, Row | Issue]], faulty: RowFaults, path: Path) -> None:
    with _written_to(path) as stream:
        for number, row in numbered:
            told = [f"{f.field}: {f.reason}" if f.field else f.reason for f in faulty[number]]
            if told:
                held = None if isinstance(row, Issue) else row
                stream.write(json.dumps({"row": number, "reasons": told, "data": held}, default=str) + "\n")


@contextmanager
def _written_to(path: Path) -> Iterator[TextIO]:
    """A file to write text to, on the disk when it closes."""
    with path.open("wb") as file:
        os.fchmod(file.fileno(), PRIVATE_FILE)
        packed = gzip.GzipFile(fileobj=file, mode="wb", mtime=0) if path.name.lower().endswith(".gz") else None
        with io.TextIOWrapper(packed or file, encoding="utf-8", errors="replace", newline="") as stream:
            yield stream
            stream.flush()
            if packed is not None:
                packed.close()
            file.flush()
            os.fsync(file.fileno())


def _shown(row: Row) -> str:
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text if text.isprintable() else json.dumps(row, default=str)  # half a character, in a field that is not used


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | tuple) else value
