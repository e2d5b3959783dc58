"""Rows of CSV: cells are text, an empty one is null, and a cell that holds a JSON list of messages is a chat."""

from __future__ import annotations

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import IO, Any

from twofold.data.issues import Issue

_LARGEST = 2**31 - 1  # of a cell, in characters; the module's own limit is 131072, less than long answers have


def rows(stream: IO[bytes], source: str) -> Iterator[tuple[int, dict[str, Any] | Issue]]:
    """Each row by the line where it begins, the header's being 1; a byte order mark is Excel's way and no fault."""
    csv.field_size_limit(_LARGEST)
    reader = csv.reader(_lines(stream), strict=True)
    begins = 1
    try:
        header = next(reader, [])
        while True:
            begins = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if cells:
                yield begins, _row(header, cells, source, begins)
    except csv.Error as error:
        remedy = "put cells with quotes or line ends between quotes, and double the quotes inside"
        yield begins, Issue(source, begins, "", f"bad CSV: {error}", remedy, check="bad CSV")


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines as text; a byte that is not UTF-8 stays in it as a lone surrogate, so that its row can be named."""
    for number, line in enumerate(stream):
        yield (line if number else line.removeprefix(BOM_UTF8)).decode("utf-8", "surrogateescape")


def _row(header: list[str], cells: list[str], source: str, number: int) -> dict[str, Any] | Issue:
    if len(cells) != len(header):
        reason = f"has {len(cells)} cells, the header {len(header)}"
        return Issue(source, number, "", reason, "put cells with commas between quotes", check="bad CSV")
    for name, cell in zip(header, cells, strict=True):
        broken = next((c for c in cell if "\udc80" <= c <= "\udcff"), None)
        if broken is not None:
            reason = f"byte {ord(broken) - 0xDC00:#04x} is not UTF-8"
            return Issue(source, number, name, reason, "save the file as UTF-8", check="bad UTF-8")
    return {name: _value(cell) for name, cell in zip(header, cells, strict=True)}


def _value(cell: str) -> Any:
    if not cell:
        return None
    if cell.startswith("[{") and cell.endswith("}]"):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell
