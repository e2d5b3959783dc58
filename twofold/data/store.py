"""Rows and token groups of data too large to hold: Arrow files that are mapped into memory, each behind a `Sequence`.

A store is `KEY.arrow` and, written after it, `KEY.json` with its facts and the checksum of the other. A store that is
not whole, or does not match its checksum, is as good as none.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from twofold.data.lazy import LazySequence

T = TypeVar("T")
AT_ONCE = 1024
"""Rows of a record batch."""
_BLOCK = 1 << 20


class Batches:
    """The record batches of a store: found by row in the mapped file, or read one after the other, each then let go."""

    def __init__(self, path: Path, counts: Sequence[int]) -> None:
        self._path, self._file = path, pa.ipc.open_file(pa.memory_map(str(path)))
        self._starts = [0, *accumulate(counts)]
        self._held: tuple[int, pa.RecordBatch] | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(self._path)) as stream:
            file = pa.ipc.open_file(stream)
            yield from (file.get_batch(i) for i in range(file.num_record_batches))

    def find(self, row: int) -> tuple[pa.RecordBatch, int]:
        """The batch that holds `row` ≥ 0, and where in it."""
        number = bisect_right(self._starts, row) - 1
        if self._held is None or self._held[0] != number:
            self._held = number, self._file.get_batch(number)
        return self._held[1], row - self._starts[number]


class Stored(LazySequence[T]):
    """A sequence whose members are made anew from disk whenever they are asked for."""

    def __init__(self, key: str, batches: Batches, facts: Mapping[str, Any]) -> None:
        self.key, self.facts, self._batches = key, facts, batches

    def __len__(self) -> int:
        return len(self._batches)

    def at(self, place: int) -> T:
        return self.made(*self._batches.find(place))

    def __iter__(self) -> Iterator[T]:
        return (self.made(batch, place) for batch in self._batches for place in range(batch.num_rows))

    @abstractmethod
    def made(self, batch: pa.RecordBatch, place: int) -> T:
        """The member at `place` of `batch`."""


def write(
    folder: Path,
    schema: pa.Schema,
    rows: Iterable[Mapping[str, Any]],
    closing: Callable[[], tuple[str, dict[str, Any]]],
) -> str:
    """Write `rows` in batches as they come; gives the key of the store, which `closing` tells, with its facts, when all
    rows have passed. Nothing is left behind where `rows` raise."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{os.getpid()}-{id(rows)}.tmp"
    arriving, counts = iter(rows), list[int]()
    try:
        with temporary.open("wb") as file:
            summed = _Summed(file)
            with pa.ipc.new_file(pa.PythonFile(summed, "w"), schema) as writer:
                while chunk := list(islice(arriving, AT_ONCE)):
                    writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema))
                    counts.append(len(chunk))
            os.fsync(file.fileno())
        key, facts = closing()
        temporary.replace(folder / f"{key}.arrow")
        sheet = {"crc32": summed.crc, "bytes": summed.size, "counts": counts, "facts": facts}
        temporary.write_text(json.dumps(sheet, ensure_ascii=False), encoding="utf-8")
        temporary.replace(folder / f"{key}.json")
    finally:
        temporary.unlink(missing_ok=True)
    return key


def opened(folder: Path, key: str) -> tuple[Batches, dict[str, Any]] | None:
    """The batches and facts of a store; None where it is missing or damaged."""
    path = folder / f"{key}.arrow"
    try:
        sheet = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        if path.stat().st_size != sheet["bytes"] or _crc(path) != sheet["crc32"]:
            return None
        return Batches(path, sheet["counts"]), sheet["facts"]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _crc(path: Path) -> int:
    found = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found


class _Summed(io.RawIOBase):
    """A file that sums what is written to it."""

    def __init__(self, file: Any) -> None:
        self._file, self.crc, self.size = file, 0, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
