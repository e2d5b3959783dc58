"""Reads rows of Arrow and Parquet files, and validates all bytes before a value is made from them.

Values of a damaged file can point outside its memory and crash Python. So nothing is memory-mapped, because a file may
change or be truncated while it is read. Each batch is validated (offsets, lengths, UTF-8) before it is read. Parquet's
page checksums are verified if the writer stored any. Arrow has none, so a changed letter in a text cannot be detected.
A few bytes of either format can expand to fill the memory, so the decompressed size of a row, and of a batch, is
computed first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.data.arrow_messages import refuse_large_messages
from twofold.data.arrow_sizes import are_small, at_once, row_sizes
from twofold.data.issues import Issue, shortened
from twofold.data.json_rows import Numbered
from twofold.data.parquet_pages import plan
from twofold.data.reading import BOUNDS, RowBounds
from twofold.data.unpacking import Allowance, UnpackedError
from twofold.errors import first_line

if TYPE_CHECKING:
    import pyarrow as pa

_FILE = b"ARROW1\0\0"
"""How a file of Arrow begins; behind it, it is a stream."""
Batches = Callable[[Path, Allowance], Iterator["pa.RecordBatch"]]


def tables(
    batches: Batches, path: Path, source: str, ignore: Collection[str] = (), bounds: RowBounds = BOUNDS
) -> Iterator[Numbered]:
    """The rows of the record `batches` of a file, without the columns to `ignore`; the fault that ends them last."""
    number, allowance = 0, Allowance(path, bounds.growth)
    try:
        for batch in batches(path, allowance):
            names = batch.schema.names
            twice = next((name for name, count in Counter(names).items() if count > 1), None)
            if twice is not None:
                reason, remedy = "is there twice: one of the two columns would be lost", "keep one of them"
                yield 0, Issue(source, 0, shortened(twice), reason, remedy, check="field twice")
                return
            for row in _bounded(batch.select([n for n in names if n not in ignore]), allowance, bounds.bytes):
                number += 1
                yield number, row if isinstance(row, dict) else _too_large(source, number, row, bounds.bytes)
    except UnpackedError:
        yield 0, allowance.issue(source, number + 1)
    except _ColumnError as error:
        name = shortened(error.name)
        remedy = f"write the column as text; or let it go: data.ignore=[{name}] (--ignore {name})"
        yield number + 1, Issue(source, number + 1, name, str(error), remedy, check="unreadable")
    except Exception as error:  # a damaged file makes the libraries raise whatever they meet first
        kind = "parquet" if batches is parquet else "Arrow"
        reason, place = f"not readable as {kind}: {first_line(error)}", number and number + 1
        yield place, Issue(source, place, "", reason, "copy or write the file again", check="unreadable")


def _bounded(batch: pa.RecordBatch, allowance: Allowance, most: int) -> Iterator[dict[str, Any] | int]:
    """The rows of a batch; of one that holds more than `most` bytes, how many."""
    if are_small(batch, most):
        allowance.take(batch.nbytes)
        yield from _rows(batch)
        return
    sizes = row_sizes(batch, allowance)
    for run in at_once(sizes, most):
        allowance.take(int(sizes[run].sum()))
        if sizes[run.start] > most:
            yield int(sizes[run.start])
        else:
            yield from _rows(batch.slice(run.start, run.stop - run.start))


def _too_large(source: str, number: int, size: int, most: int) -> Issue:
    reason = f"unpacks to {size:,} bytes, at most {most:,} are read"
    remedy = "remove the row; where it is meant so, raise data.bounds.bytes (--row-bytes)"
    return Issue(source, number, "", reason, remedy, check="row too long")


def arrow(path: Path, allowance: Allowance) -> Iterator[pa.RecordBatch]:
    """A stream or a file of Arrow record batches; `datasets` writes streams."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as stream:
        is_file = stream.read(len(_FILE)) == _FILE
        stream.seek(len(_FILE) if is_file else 0)
        refuse_large_messages(stream, allowance)
        stream.seek(0)
        if is_file:
            file = pa.ipc.open_file(stream)
            batches: Any = (file.get_batch(i) for i in range(file.num_record_batches))
        else:
            batches = pa.ipc.open_stream(stream)
        for batch in batches:
            batch.validate(full=True)
            yield batch


def parquet(path: Path, allowance: Allowance) -> Iterator[pa.RecordBatch]:
    """The record batches of a parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        count, shared = plan(file, path, allowance)
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=shared) as file:
        for batch in file.iter_batches(batch_size=count):
            batch.validate(full=True)
            yield batch


def damaged(paths: Collection[Path], growth: int = BOUNDS.growth) -> tuple[Path, str] | None:
    """The first Arrow file of a data set that is not whole, or unpacks too far, and why."""
    for path in paths:
        allowance = Allowance(path, growth)
        try:
            for batch in arrow(path, allowance):
                allowance.take(int(row_sizes(batch, allowance).sum()))
        except UnpackedError:
            return path, allowance.reason
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
    """The values of a column. Times that Python cannot represent are text."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except Exception as error:
        if pa.types.is_temporal(column.type):
            return column.cast(pa.string()).to_pylist()
        raise _ColumnError(name, f"holds what cannot be read: {first_line(error)}") from None
