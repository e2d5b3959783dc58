"""What is too much for memory, in temporary files: bytes, and numbers of rows in the order in which they come."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from twofold.errors import DataError

AT_ONCE = 1 << 14
"""Entries of a `Spool` that are in memory."""


class Scratch:
    """A file in the folder for temporary files. It has no name, so it disappears with its last user."""

    def __init__(self) -> None:
        self._file = None
        self.size = 0

    def append(self, data: bytes) -> None:
        """Raises DataError where the disk refuses it."""
        self.put(data, self.size)

    def put(self, data: bytes, place: int) -> None:
        """Write `data` from `place` on. Raises DataError where the disk refuses it."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            done = 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), memoryview(data)[done:], place + done)
        except OSError as error:
            raise refused(error.strerror) from None
        self.size = max(self.size, place + len(data))

    def read(self, place: int, size: int) -> bytes:
        """The bytes from `place` on; fewer at the end of the file."""
        return os.pread(self._file.fileno(), size, place) if self._file is not None else b""


def refused(reason: str | None) -> DataError:
    """The error of a disk that takes no more."""
    remedy = "free space there, or name another folder: TMPDIR=FOLDER"
    return DataError(f"cannot be written: {reason}", where=tempfile.gettempdir(), remedy=remedy)


class Spool:
    """Entries of one type in the order in which they come. The last ones are in memory, the others in a file."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._waiting, self._scratch, self._most = list[object](), Scratch(), AT_ONCE

    def __len__(self) -> int:
        return self._scratch.size // self._dtype.itemsize + len(self._waiting)

    def append(self, entry: object) -> None:
        """Add an entry; of several fields a tuple. Raises DataError where the disk refuses it."""
        self._waiting.append(entry)
        if len(self._waiting) >= self._most:
            self._scratch.append(np.array(self._waiting, self._dtype).tobytes())
            self._waiting.clear()

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """The entries from `begin` to `end`."""
        size = self._dtype.itemsize
        stored = self._scratch.size // size
        written = np.frombuffer(self._scratch.read(begin * size, max(0, min(end, stored) - begin) * size), self._dtype)
        if end <= stored:
            return written
        waiting = np.array(self._waiting[max(0, begin - stored) : end - stored], self._dtype)
        return np.concatenate([written, waiting]) if len(written) else waiting

    def at(self, place: int) -> Any:
        """One entry, as Python has it."""
        return self.read(place, place + 1)[0].item()

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All entries, as many at once as are in memory."""
        for begin in range(0, len(self), self._most):
            yield self.read(begin, begin + self._most)
