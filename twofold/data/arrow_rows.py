"""Rows of Arrow and parquet files, whose bytes are checked in full before a value is made of them.

Values of a damaged file can lead out of its memory, and Python dies of that. So nothing is mapped into memory, where a
file may change or end under the reader, and each batch is validated (offsets, lengths, UTF-8) before it is read.
Parquet's page checksums are verified where the writer left any; Arrow has none, so that a letter that was changed in a
text is, to any reader, another text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.data.issues import Issue, shortened
from twofold.data.json_rows import Numbered

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 64
"""Rows of parquet that are decoded together."""
Batches = Callable[[Path], Iterator["pa.RecordBatch"]]


def tables(batches: Batches, path: Path, source: str, ignore: Collection[str] = ()) -> Iterator[Numbered]:
    """The rows of the record `batches` of a file, without the columns to `ignore`; the fault that ends them last."""
    number = 0
    try:
        for batch in batches(path):
            names = batch.schema.names
            twice = next((name for name, count in Counter(names).items() if count > 1), None)
            if twice is not None:
                reason, remedy = "is there twice: one of the two columns would be lost", "keep one of them"
                yield 0, Issue(source, 0, shortened(twice), reason, remedy, check="field twice")
                return
            for row in _rows(batch.select([n for n in names if n not in ignore])):
                number += 1
                yield number, row
    except _ColumnError as error:
        name = shortened(error.name)
        remedy = f"write the column as text; or let it go: data.ignore=[{name}] (--ignore {name})"
        yield number + 1, Issue(source, number + 1, name, str(error), remedy, check="unreadable")
    except Exception as error:  # a damaged file makes the libraries raise whatever they meet first
        kind = "parquet" if batches is parquet else "Arrow"
        reason, place = f"not readable as {kind}: {first_line(error)}", number and number + 1
        yield place, Issue(source, place, "", reason, "copy or write the file again", check="unreadable")


def arrow(path: Path) -> Iterator[pa.RecordBatch]:
    """A stream or a file of Arrow record batches; `datasets` writes streams."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as stream:
        try:
            batches: Any = iter(pa.ipc.open_stream(stream))
        except pa.ArrowInvalid:
            stream.seek(0)
            file = pa.ipc.open_file(stream)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        for batch in batches:
            batch.validate(full=True)
            yield batch


def parquet(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of a parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=AT_ONCE):
            batch.validate(full=True)
            yield batch


def damaged(paths: Collection[Path]) -> tuple[Path, str] | None:
    """The first Arrow file of a data set that is not whole, and why."""
    for path in paths:
        try:
            for _ in arrow(path):
                pass
        except Exception as error:  # as above
            return path, first_line(error)
    return None


class _ColumnError(Exception):
    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(reason)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()
    except Exception:  # a value that Python has no like of, as a date in the year 300000: which column holds it?
        names = batch.schema.names
        columns = [_values(name, column) for name, column in zip(names, batch.columns, strict=True)]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(name: str, column: Any) -> list[Any]:
    """The values of a column; times that Python cannot tell, as text."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except Exception as error:
        if pa.types.is_temporal(column.type):
            return column.cast(pa.string()).to_pylist()
        raise _ColumnError(name, f"holds what cannot be read: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """What an error of a library says first."""
    return next(iter(str(error).splitlines()), type(error).__name__)
