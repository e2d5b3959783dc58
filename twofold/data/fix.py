"""Writes the clean rows of a source to a file, in their format, and the others to a second file with the reasons."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from twofold.data.issues import Issue, quoted
from twofold.data.json_rows import Row
from twofold.data.readers import rows
from twofold.data.reading import Reading
from twofold.data.validate import Report
from twofold.disk import PRIVATE_FILE
from twofold.errors import DataError

_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv")
KNOWN = (*_ENDINGS, *(f"{e}.gz" for e in _ENDINGS))
LEFT_OUT = ".left-out.jsonl"

Check = Callable[[str], Report]
"""How a file is judged: the source itself, and then what was written of it."""


@dataclass(frozen=True)
class Fixed:
    """What was written, and of what kinds the faults of the rows left out are (`reasons`, the most frequent first).

    `beside` is not there where no row was left out.
    """

    out: str
    beside: str
    rows_left: int
    left_out: int
    reasons: Mapping[str, int]


def fix(report: Report, out: str, check: Check, reading: Reading | None = None) -> Fixed:
    """Write the rows without errors of the source of `report` to `out`, and the others with their errors to a file next
    to it. `reading` defines how the source was read; ignored keys are written too.

    `check` judges what was written, until no row of it is at fault: a row may be the first of its shape, or one of
    several. A file is there whole or not at all. Raises DataError where nothing is left, or the whole file is at fault.
    """
    _refuse(report, out)
    how = replace(reading or Reading(report.source), ignore=())
    target, beside = Path(out), Path(out + LEFT_OUT)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_name(f".{os.getpid()}.{target.name}")
    listed = target.with_name(f".{os.getpid()}.{beside.name}")
    faulty = _by_row(report.faults)
    try:
        while True:
            kept = _write(_rows(how), faulty, written)
            if not kept:
                raise DataError("no row is without faults", where=report.source, remedy="see `twofold data check`")
            places = dict(zip((number for number, _ in _rows(replace(how, source=str(written)))), kept, strict=True))
            more = _by_row(check(str(written)).faults, places)
            if not more:
                break
            faulty |= more
        if faulty:
            _list(_rows(how), faulty, listed)
            os.replace(listed, beside)
        os.replace(written, target)
    finally:
        written.unlink(missing_ok=True)
        listed.unlink(missing_ok=True)
    reasons = Counter(fault.check for faults in faulty.values() for fault in faults)
    return Fixed(out, str(beside), len(kept), len(faulty), dict(reasons.most_common()))


def _refuse(report: Report, out: str) -> None:
    if not out.lower().endswith(KNOWN):
        raise DataError("unknown kind of file to write", where=out, remedy=f"end its name in one of {quoted(KNOWN)}")
    if Path(out).exists():
        raise DataError("is there already", where=out, remedy="name a new file")
    whole = next((f for f in report.errors if not f.row), None)
    if whole is not None:
        raise DataError(whole.reason, where=whole.where, remedy=whole.remedy)


def _rows(how: Reading) -> Iterator[tuple[int, Row | Issue]]:
    """Rows, and errors instead of a row, but not the warnings before a row."""
    found = rows(how.source, how.split, bounds=how.bounds)
    return ((n, row) for n, row in found if not isinstance(row, Issue) or row.severity == "error")


def _by_row(faults: tuple[Issue, ...], places: Mapping[int, int] | None = None) -> dict[int, list[Issue]]:
    """Faults by the row that is to be left out; a byte order mark is no reason, since it is not written again."""
    found: dict[int, list[Issue]] = {}
    for fault in faults:
        if fault.row and fault.check != "BOM":
            row = places[fault.row] if places else fault.row
            found.setdefault(row, []).append(fault)
    return found


def _write(numbered: Iterator[tuple[int, Row | Issue]], faulty: Mapping[int, object], path: Path) -> list[int]:
    """Write the rows that are not faulty; gives their numbers in the source."""
    name, kept = path.name.lower().removesuffix(".gz"), list[int]()

    def clean() -> Iterator[Row]:
        for number, row in numbered:
            if number not in faulty and not isinstance(row, Issue):
                kept.append(number)
                yield row

    with _opened(path) as stream:
        if name.endswith(".csv"):
            _write_csv(stream, clean())
        else:
            opening, between, closing = ("[\n", ",\n", "\n]\n") if name.endswith(".json") else ("", "\n", "\n")
            for row in clean():
                stream.write((between if len(kept) > 1 else opening) + _shown(row))
            stream.write(closing)
    return kept


def _list(numbered: Iterator[tuple[int, Row | Issue]], faulty: Mapping[int, list[Issue]], path: Path) -> None:
    with _opened(path) as stream:
        for number, row in numbered:
            told = [f"{f.field}: {f.reason}" if f.field else f.reason for f in faulty.get(number, [])]
            if told:
                held = None if isinstance(row, Issue) else row
                stream.write(json.dumps({"row": number, "reasons": told, "data": held}, default=str) + "\n")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A file to write text to, on the disk when it closes."""
    with path.open("wb") as file:
        os.fchmod(file.fileno(), PRIVATE_FILE)
        packed = gzip.GzipFile(fileobj=file, mode="wb", mtime=0) if path.name.lower().endswith(".gz") else None
        with io.TextIOWrapper(
            packed or file, encoding="utf-8", errors="replace", newline="", write_through=True
        ) as stream:
            yield stream
            stream.flush()
            if packed is not None:
                packed.close()
            file.flush()
            os.fsync(file.fileno())


def _shown(row: Row) -> str:
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text if text.isprintable() else json.dumps(row, default=str)  # half a character, in a field that is not used


def _write_csv(stream: TextIO, clean: Iterator[Row]) -> None:
    """The first row defines the columns."""
    for first in clean:
        writer = csv.DictWriter(stream, list(first), extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in chain([first], clean))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | tuple) else value
