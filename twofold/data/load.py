"""Rows for training: checked as `twofold data check` checks them, and kept on disk where there are too many to hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from twofold.data.formats import Stream, Table, texts
from twofold.data.issues import Issue, IssueError
from twofold.data.readers import digest
from twofold.data.reading import Reading
from twofold.data.validate import Inspection, Report
from twofold.errors import DataError
from twofold.progress import Progress
from twofold.records import Record

IN_MEMORY = 20_000
"""Rows of a source that are held as objects; from there on they are read from disk as they are needed."""
TEXT_IN_MEMORY = 2**28
"""Characters of rows that are held as objects."""
MOST_TOLD = 5


def load(reading: Reading, folder: Path, progress: Progress) -> Table:
    """The rows of a source without errors. Warnings are reported once per kind.

    `folder` stores rows that do not fit in memory. If it already has the rows of this file, with the same reading and
    code version, the file is not parsed again. Raises FaultError for the first error, with the number of errors.
    """
    known = digest(reading.source)
    held = _cached(reading, known, folder, progress) if known else None
    if held is None:
        held = _parse(reading, known, folder, progress)
    _tell_warnings(reading.source, held[1], progress)
    return held[0]


def _parse(reading: Reading, known: str | None, folder: Path, progress: Progress) -> tuple[Table, dict[str, Any]]:
    stream = Stream(reading, sha256=known)
    inspection = Inspection(stream, progress=progress, accept=reading.accept)
    arriving = (made.record for made in inspection if made.record is not None)
    head, whole = _head(arriving)

    def closing() -> tuple[str, dict[str, Any]]:
        facts = _facts(_without_errors(inspection.report(), len(head)), stream.sha256)
        return _key(reading, stream.sha256), facts

    if whole:
        return Table(head, stream.format, reading.source, stream.sha256), closing()[1]
    from twofold.data.stored_records import write_records

    key = write_records(folder, chain(head, arriving), closing)
    found = _cached(reading, stream.sha256, folder, progress)
    if found is None:
        raise DataError("the rows just written cannot be read again", where=str(folder / key), remedy="check the disk")
    return found


def _head(arriving: Iterator[Record]) -> tuple[list[Record], bool]:
    """The first records, as many as memory is to hold, and whether they are all."""
    head, size = list[Record](), 0
    for record in arriving:
        head.append(record)
        size += sum(len(text) for _, text in texts(record))
        if len(head) >= IN_MEMORY or size > TEXT_IN_MEMORY:
            return head, False
    return head, True


def _cached(reading: Reading, known: str, folder: Path, progress: Progress) -> tuple[Table, dict[str, Any]] | None:
    key = _key(reading, known)
    if not (folder / f"{key}.json").is_file():
        return None
    from twofold.data.stored_records import open_records

    records = open_records(folder, key, reading.source)
    if records is None:
        progress.warn(f"{folder / key}.json: what is kept here is damaged; the rows are read again")
        return None
    facts = dict(records.facts)
    return Table(records, facts["format"], reading.source, facts["sha256"]), facts


def _without_errors(report: Report, usable: int) -> Report:
    errors = report.errors
    if errors:
        raise _refused(errors)
    if not usable:
        raise DataError("has no rows", where=report.source, remedy="check the file and the split")
    return report


def _refused(errors: Sequence[Issue]) -> DataError:
    first = errors[0]
    if len(errors) == 1:
        return IssueError(first)
    others = f"and {len(errors) - 1} more error{'s' if len(errors) > 2 else ''}: `twofold data check` names them all"
    return IssueError(Issue(**{**asdict(first), "remedy": f"{first.remedy} ({others})"}))


def _facts(report: Report, sha256: str) -> dict[str, Any]:
    warnings: dict[str, Any] = {}
    whole = list[str]()
    for fault in report.warnings:
        if not fault.row:
            whole.append(fault.reason)
            continue
        kind = warnings.setdefault(fault.check, {"count": 0, "rows": []})
        kind["count"] += 1
        kind["rows"] += [fault.row] if kind["count"] <= MOST_TOLD else []
    return {"format": report.format, "sha256": sha256, "warnings": warnings, "of the whole": whole}


def _tell_warnings(source: str, facts: Mapping[str, Any], progress: Progress) -> None:
    warnings: dict[str, Any] = facts["warnings"]
    told = [*facts["of the whole"], *(f"{found['count']} × {check}{_at(found)}" for check, found in warnings.items())]
    if told:
        progress.warn(f"{source}: {'; '.join(told)}. `twofold data check {source}` shows what to do")


def _at(found: Mapping[str, Any]) -> str:
    rows = [str(row) for row in found["rows"]]
    return f" (row{'s' if len(rows) > 1 else ''} {', '.join(rows)}{', …' if found['count'] > len(rows) else ''})"


def _key(reading: Reading, known: str) -> str:
    how = {**asdict(reading), "source": "", "stream": False}
    return sha256(json.dumps([known, how, code()], sort_keys=True).encode()).hexdigest()[:32]


@cache
def code() -> str:
    """A digest of the code that makes rows and tokens, so that nothing kept outlives it."""
    package = Path(__file__).parent
    files = sorted([*package.rglob("*.py"), package.parent / "records.py", package.parent / "batch.py"])
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
