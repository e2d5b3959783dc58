"""How a parquet file is read so that no more of it is unpacked at once than memory holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twofold.data.arrow_sizes import AT_ONCE, BUDGET, VALUE
from twofold.data.unpacking import Allowance

_DICTIONARY_PAGE = 2


def plan(file: Any, path: Path, allowance: Allowance) -> tuple[int, list[str]]:
    """How many rows of a parquet file are decoded together, and which columns stay dictionaries. Raises UnpackedError.

    A value of a dictionary is stored once, and may be meant in every row, and in every item of its list.
    """
    total, plain, repeated = 0, 0.0, dict[str, float]()
    with path.open("rb") as stream:
        for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
            rows, sizes = max(1, group.num_rows), 0
            for column in map(group.column, range(group.num_columns)):
                sizes += max(column.total_uncompressed_size, VALUE * column.num_values)
                most = _dictionary_bytes(stream, column) * max(1, column.num_values / rows)
                repeated[column.path_in_schema] = max(most, repeated.get(column.path_in_schema, 0))
            total, plain = total + sizes, max(plain, sizes / rows)
    allowance.refuse(total)
    shared = [name for name, size in repeated.items() if size > BUDGET]
    row = plain + sum(size for name, size in repeated.items() if name not in shared)
    return max(1, min(AT_ONCE, int(BUDGET / max(1, row)))), shared


def _dictionary_bytes(stream: Any, column: Any) -> int:
    """The unpacked size of the dictionary page of a column chunk, which is its first page; 0 where there is none. A
    page's head is Thrift's compact protocol: its kind and its size are the first two fields, of 32 bits."""
    stream.seek(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)
    head = stream.read(12)
    kind, place = _zigzag(head, 1)
    size, _ = _zigzag(head, place + 1)
    return size if kind == _DICTIONARY_PAGE else 0


def _zigzag(data: bytes, place: int) -> tuple[int, int]:
    """A number of Thrift's, and where the next field begins; 0 behind the end of the data."""
    value = shift = 0
    while place < len(data):
        byte = data[place]
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            break
    return value >> 1 ^ -(value & 1), place
