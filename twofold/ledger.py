"""What was asked and answered, kept line by line, so that a broken run asks for nothing twice.

A line is on disk before anyone uses it, and is signed: a damaged one is named. What a killed process left half written
is cut off when the file is opened. Lines of earlier versions, without a check, may stand before the first that has one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Self

from twofold.disk import encoded, is_signed, json_object, own, replacing, signed, sync, verified
from twofold.errors import DataError


class Lines:
    """A file of JSON objects, one a line, that only grows: `append` returns once they are on disk.

    One process at a time may hold it; it may be shared between threads. Raises `DataError` where another process holds
    the file, where a whole line of it is damaged, or where the disk takes no more.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        own(path)
        self._file = os.open(path, os.O_RDWR)
        try:
            self._hold()
            self.found = self._read()
        except BaseException:
            os.close(self._file)
            raise
        if new:
            sync(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `rows` behind what is there and wait for the disk; either all of them are kept, or none."""
        data = b"".join(signed(row) + b"\n" for row in rows)
        with self._lock:
            end = os.lseek(self._file, 0, os.SEEK_END)
            try:
                _write(self._file, data)
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, end)
                what, remedy = (
                    f"cannot be written: {error.strerror}",
                    "make room there, or name another place; what it holds is kept",
                )
                raise DataError(what, where=str(self.path), remedy=remedy) from None

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "wait for the other run, or name another --out"
            raise DataError("another run is writing here", where=str(self.path), remedy=remedy) from None

    def _read(self) -> list[dict[str, Any]]:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].split(b"\n")[:-1]
        rows = _rows(lines)
        for number, row in enumerate(rows, 1):
            if row is None:
                remedy = "remove the line, and what it says is asked again; or remove the file to begin anew"
                raise DataError("is damaged", where=f"{self.path}:{number}", remedy=remedy)
        tail = _rows([*lines[-1:], data[whole:]])[-1]
        if tail is not None:
            os.lseek(self._file, len(data), os.SEEK_SET)
            _write(self._file, b"\n")
            os.fsync(self._file)
        elif whole < len(data):
            os.ftruncate(self._file, whole)
        return [row for row in (*rows, tail) if row is not None]


class Ledger(Lines):
    """Replies by request: what `add` was told, `get` knows, also after a kill.

    A request is any JSON object; the same content is the same request, whatever the order of its keys.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        replies = (row for row in self.found if row.keys() >= {"key", "reply"})
        self._replies: dict[str, Any] = {row["key"]: row["reply"] for row in replies}
        self.found = []

    def get(self, request: Mapping[str, Any]) -> Any | None:
        """The reply recorded for `request`, or None."""
        return self._replies.get(key(request))

    def add(self, answered: Iterable[tuple[Mapping[str, Any], Any]]) -> None:
        """Record (request, reply) pairs; on disk when this returns."""
        rows = [{"key": key(request), "request": request, "reply": reply} for request, reply in answered]
        self.append(rows)
        self._replies.update((row["key"], row["reply"]) for row in rows)

    def fail(self, request: Mapping[str, Any], reason: str, **details: Any) -> None:
        """Record that an attempt at `request` brought nothing of use, and why."""
        self.append([{"key": key(request), "failure": reason, **details}])


def recorded(path: Path) -> int:
    """How many replies a ledger holds, without touching it; 0 where there is none."""
    if not path.exists():
        return 0
    rows = _rows(path.read_bytes().split(b"\n"))
    return len({row["key"] for row in rows if row is not None and row.keys() >= {"key", "reply"}})


def key(request: Mapping[str, Any]) -> str:
    """sha256 of a request's content."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put a whole file of JSON lines in the place of `path`: at any moment there is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.writelines(encoded(row) + b"\n" for row in rows)


def _rows(lines: Iterable[bytes]) -> list[dict[str, Any] | None]:
    """The object of each line; None for a damaged one."""
    found: list[dict[str, Any] | None] = []
    checked = False
    for line in lines:
        checked = checked or is_signed(line)
        found.append(verified(line) if checked else json_object(line))
    return found


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
