"""Rows and token groups of data too large to hold: Arrow files that are mapped into memory, each behind a `Sequence`.

A store is `KEY.arrow` and, written after it, `KEY.json`: signed for its key, with its facts and the other's sha256.
A store that is not whole, or is not what was written, is as good as none.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from twofold.data.lazy import LazySequence
from twofold.disk import make_folder, read_signed, replacing, sha256, write_signed

T = TypeVar("T")
AT_ONCE = 1024
"""Rows of a record batch."""


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
    """A sequence whose members are read from disk at each access."""

    def __init__(self, key: str, batches: Batches, facts: Mapping[str, Any]) -> None:
        self.key, self.facts, self._batches = key, facts, batches

    def __len__(self) -> int:
        return len(self._batches)

    def at(self, place: int) -> T:
        return self.made(*self._batches.find(place))

    def __iter__(self) -> Iterator[T]:
        return (member for batch in self._batches for member in self.members(batch))

    def members(self, batch: pa.RecordBatch) -> Iterator[T]:
        """All members of `batch`, in order."""
        return (self.made(batch, place) for place in range(batch.num_rows))

    @abstractmethod
    def made(self, batch: pa.RecordBatch, place: int) -> T:
        """The member at `place` of `batch`."""


def write(
    folder: Path,
    schema: pa.Schema,
    rows: Iterable[T],
    columns: Callable[[list[T]], Sequence[pa.Array]],
    closing: Callable[[], tuple[str, dict[str, Any]]],
) -> str:
    """Write `rows` in batches as they come, each as the `columns` of the schema that are made of its rows.

    Returns the key of the store, from `closing`, which is called with the store's facts after all rows. Nothing is left
    behind where `rows` raise."""
    make_folder(folder)
    temporary = folder / f"{os.getpid()}-{id(rows)}.tmp"
    arriving, counts = iter(rows), list[int]()
    try:
        with replacing(temporary) as file:
            summed = _Summed(file)
            with pa.ipc.new_file(pa.PythonFile(summed, "w"), schema) as writer:
                while chunk := list(islice(arriving, AT_ONCE)):
                    writer.write_batch(pa.RecordBatch.from_arrays(columns(chunk), schema=schema))
                    counts.append(len(chunk))
        key, facts = closing()
        temporary.replace(folder / f"{key}.arrow")
        sheet = {"sha256": summed.sha256.hexdigest(), "counts": counts, "facts": facts}
        write_signed(folder / f"{key}.json", sheet, about=key)
    finally:
        temporary.unlink(missing_ok=True)
    return key


def opened(folder: Path, key: str) -> tuple[Batches, dict[str, Any]] | None:
    """The batches and facts of a store; None where it is missing or damaged."""
    path, sheet = folder / f"{key}.arrow", read_signed(folder / f"{key}.json", about=key)
    try:
        if sheet is None or sha256(path) != sheet["sha256"]:
            return None
        return Batches(path, sheet["counts"]), sheet["facts"]
    except (OSError, pa.ArrowException):
        return None


class _Summed(io.RawIOBase):
    """A file that sums what is written to it."""

    def __init__(self, file: Any) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
