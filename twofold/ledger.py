"""Requests and replies, stored line by line, so that an interrupted run sends no request twice.

A line is on disk before it is used, and it is signed, so a damaged line is detected. A partial line of a killed process
is cut off when the file is opened. Lines of earlier versions, without a check, may come before the first line with one.
Memory does not grow with the file: it is read line by line, and the positions of replies are in an index on disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import IO, Any, Self

from twofold.disk import encoded, is_signed, json_object, own, replacing, signed, sync, verified
from twofold.errors import DataError

Row = dict[str, Any]
Place = tuple[int, int]
"""The place of a line: its first byte, and its number of bytes without the line end."""
INDEX_KIB = 8192  # of the index in memory; the rest is in a temporary file


class Lines:
    """A file of JSON objects, one a line, that only grows: `append` returns once they are on disk.

    `take` receives each existing line with its place, in order. One process at a time may open the file. Threads may
    share it. Raises `DataError` if another process has opened the file, if a complete line is damaged, or if the disk
    is full.
    """

    def __init__(self, path: Path, take: Callable[[Row, Place], None] = lambda row, place: None) -> None:
        self.path, self._lock = path, Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        own(path)
        self._file = os.open(path, os.O_RDWR)
        try:
            self._hold()
            self._read(take)
        except BaseException:
            os.close(self._file)
            raise
        if new:
            sync(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> list[Place]:
        """Append `rows` and wait for the disk. Either all of them are stored, or none. Returns their places."""
        lines = [signed(row) for row in rows]
        with self._lock:
            end = os.lseek(self._file, 0, os.SEEK_END)
            try:
                _write(self._file, b"".join(line + b"\n" for line in lines))
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, end)
                what, remedy = (
                    f"cannot be written: {error.strerror}",
                    "make room there, or name another place; what it holds is kept",
                )
                raise DataError(what, where=str(self.path), remedy=remedy) from None
        ends = accumulate((len(line) + 1 for line in lines), initial=end)
        return [(start, len(line)) for start, line in zip(ends, lines, strict=False)]

    def read(self, place: Place) -> Row:
        """The line at `place`."""
        start, size = place
        line = os.pread(self._file, size, start)
        row = verified(line) if is_signed(line) else json_object(line)
        if row is None:
            raise _damaged(f"{self.path}, byte {start}")
        return row

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "wait for the other run, or name another --out"
            raise DataError("another run is writing here", where=str(self.path), remedy=remedy) from None

    def _read(self, take: Callable[[Row, Place], None]) -> None:
        with open(self._file, "rb", closefd=False) as file:
            for number, (line, place, row) in enumerate(_scan(file), 1):
                whole = line.endswith(b"\n")
                if row is not None:
                    take(row, place)
                elif whole:
                    raise _damaged(f"{self.path}:{number}")
                if not whole:
                    self._end_last(place, row is not None)

    def _end_last(self, place: Place, known: bool) -> None:
        """Add a missing line end to a complete last line, or cut off a partial one."""
        if known:
            os.lseek(self._file, sum(place), os.SEEK_SET)
            _write(self._file, b"\n")
            os.fsync(self._file)
        else:
            os.ftruncate(self._file, place[0])


class Ledger(Lines):
    """Replies by request: `get` returns what `add` has stored, also after the process was killed.

    A request is any JSON object; the same content is the same request, whatever the order of its keys.
    """

    def __init__(self, path: Path) -> None:
        self._index = _Index()
        try:
            super().__init__(path, self._take)
            self._index.sort()
        except BaseException:
            self._index.close()
            raise

    def get(self, request: Mapping[str, Any]) -> Any | None:
        """The reply recorded for `request`, or None."""
        place = self._index.place(key(request))
        return None if place is None else self.read(place)["reply"]

    def add(self, answered: Iterable[tuple[Mapping[str, Any], Any]]) -> None:
        """Record (request, reply) pairs; on disk when this returns."""
        rows = [{"key": key(request), "request": request, "reply": reply} for request, reply in answered]
        for row, place in zip(rows, self.append(rows), strict=True):
            self._index.add(row["key"], place)

    def fail(self, request: Mapping[str, Any], reason: str, **details: Any) -> None:
        """Record that an attempt at `request` failed, and why."""
        self.append([{"key": key(request), "failure": reason, **details}])

    def close(self) -> None:
        super().close()
        self._index.close()

    def _take(self, row: Row, place: Place) -> None:
        if row.keys() >= {"key", "reply"}:
            self._index.add(row["key"], place)


class _Index:
    """The place of the last reply of each key, in a temporary database that is in memory only while it is small."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in (f"cache_size = -{INDEX_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._rows.execute(f"PRAGMA {setting}")
        self._rows.execute("CREATE TABLE replies (key BLOB, start INTEGER, size INTEGER)")
        self._rows.execute("BEGIN")

    def add(self, key: Any, place: Place) -> None:
        with self._lock:
            self._rows.execute("INSERT INTO replies VALUES (?, ?, ?)", (_digest(key), *place))

    def sort(self) -> None:
        """Index the keys, once the whole file has been read."""
        self._rows.execute("CREATE INDEX by_key ON replies (key)")

    def place(self, key: str) -> Place | None:
        with self._lock:
            found = self._rows.execute(
                "SELECT start, size FROM replies WHERE key = ? ORDER BY rowid DESC LIMIT 1", (_digest(key),)
            )
            return found.fetchone()

    def count(self) -> int:
        """The number of different keys."""
        return self._rows.execute("SELECT count(DISTINCT key) FROM replies").fetchone()[0]

    def close(self) -> None:
        self._rows.close()


def recorded(path: Path) -> int:
    """The number of replies in a ledger, without changing it; 0 if there is no ledger."""
    if not path.exists():
        return 0
    index = _Index()
    with path.open("rb") as file:
        for _, place, row in _scan(file):
            if row is not None and row.keys() >= {"key", "reply"}:
                index.add(row["key"], place)
    try:
        return index.count()
    finally:
        index.close()


def key(request: Mapping[str, Any]) -> str:
    """sha256 of a request's content."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` with a file of JSON lines. At any moment there is either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.writelines(encoded(row) + b"\n" for row in rows)


def _scan(file: IO[bytes]) -> Iterator[tuple[bytes, Place, Row | None]]:
    """Each line with its place and its object; None for a damaged line."""
    checked, start = False, 0
    for line in file:
        text = line.removesuffix(b"\n")
        checked = checked or is_signed(text)
        yield line, (start, len(text)), verified(text) if checked else json_object(text)
        start += len(line)


def _damaged(where: str) -> DataError:
    remedy = "remove the line, and its request is sent again; or remove the file to start over"
    return DataError("is damaged", where=where, remedy=remedy)


def _digest(key: Any) -> bytes:
    return hashlib.blake2b(str(key).encode(), digest_size=16).digest()


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
