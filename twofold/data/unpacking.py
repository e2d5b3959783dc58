"""How far a packed file may unpack: a few bytes of one can hold more than any memory does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

from twofold.data.issues import Issue

ALWAYS = 64 * 2**20
"""Bytes to which any file may unpack, however small it is."""


class UnpackedError(Exception):
    """A file unpacks to more than it may."""


class Allowance:
    """What a file may unpack to: `growth` times its own bytes, or `ALWAYS`."""

    def __init__(self, path: Path, growth: int) -> None:
        self._packed, self._growth = path.stat().st_size, growth
        self._most, self._used = max(ALWAYS, growth * self._packed), 0

    def take(self, count: int) -> None:
        """Note that `count` bytes more were unpacked; raises UnpackedError."""
        self._used += count
        self.refuse(self._used)

    def refuse(self, count: float) -> None:
        """Raise UnpackedError where `count` bytes in all are too many."""
        if count > self._most:
            raise UnpackedError

    @property
    def reason(self) -> str:
        """The error for a file beyond the limit."""
        times = f", {self._growth} times its own {self._packed:,}" if self._growth * self._packed > ALWAYS else ""
        return f"unpacks to more than {self._most:,} bytes{times}"

    def issue(self, source: str, number: int) -> Issue:
        """The fault of a source of which row `number` goes too far."""
        reason = f"{self.reason}; row {number} was not read, nor was what follows"
        remedy = "check where the file comes from; where it is meant so, raise data.bounds.growth (--growth)"
        return Issue(source, 0, "", reason, remedy, check="unpacks too far")


def bounded(stream: IO[bytes], allowance: Allowance) -> IO[bytes]:
    """`stream`, which unpacks as it is read, and raises UnpackedError where that goes too far."""
    return io.BufferedReader(_Counting(stream, allowance), io.DEFAULT_BUFFER_SIZE * 8)


class _Counting(io.RawIOBase):
    def __init__(self, stream: IO[bytes], allowance: Allowance) -> None:
        self._stream, self._allowance = stream, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._stream.read(len(buffer))
        self._allowance.take(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
