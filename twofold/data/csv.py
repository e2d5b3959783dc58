"""Rows of CSV: cells are text, an empty one is null, and a cell that holds a JSON list of messages is a chat."""

from __future__ import annotations

import csv
import json
import re
import sys
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from twofold.data.issues import Issue, shortened
from twofold.data.json_rows import too_long, wide_encoding
from twofold.data.json_text import TwiceError, once

ENDINGS = (".csv", ".csv.gz", ".csv.zst")
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*|nan|[+-]?inf", re.IGNORECASE | re.ASCII)
_OTHER_SIGNS = ";\t|"
"""Between cells in files of other programs."""
_OBJECTS = ("role", "from", "text", "score", "overall_score", "rating", "rank", "input", "path", "url")
"""Keys of messages, rated completions, rounds and pictures: a list of other objects is a text."""


def is_csv(source: str) -> bool:
    """Whether a source is read as CSV, by its name or by the path of its address."""
    return source.lower().partition("?")[0].endswith(ENDINGS) or source.lower().endswith(ENDINGS)


def spelled(cell: Any) -> Any:
    """The number, true or false that a cell writes; any other value as it is."""
    if not isinstance(cell, str):
        return cell
    if cell.strip().lower() in ("true", "false"):
        return cell.strip().lower() == "true"
    return float(cell) if _NUMBER.fullmatch(cell) else cell or None


def rows(stream: IO[bytes], source: str, most: int) -> Iterator[tuple[int, dict[str, Any] | Issue]]:
    """Each row by the line where it begins, the header's being 1; a byte order mark is Excel's way and no fault. A row
    of more than `most` bytes ends the reading."""
    csv.field_size_limit(sys.maxsize)  # of the whole process; the bytes of a row are counted here
    lines = _Lines(stream, most)
    reader = csv.reader(lines, strict=True)
    begins = 1
    try:
        header = next(reader, [])
        wide, broken = wide_encoding(lines.head), _broken("".join(header))
        if wide or broken:
            reason = f"the file is {wide}" if wide else f"byte {broken} of a column's name is not UTF-8"
            yield 1, Issue(source, 1, "", reason, "save the file as UTF-8", check="bad UTF-8")
            return
        twice = next((name for name, count in Counter(header).items() if count > 1), None)
        if twice is not None:
            reason, remedy = "is there twice: one of the two columns would be lost", "keep one of them"
            yield 1, Issue(source, 1, shortened(twice), reason, remedy, check="field twice")
            return
        if len(header) == 1 and (sign := next((s for s in _OTHER_SIGNS if s in header[0]), None)):
            reason, remedy = f"its cells are separated by {sign!r}", "save the file with a comma between cells"
            yield 1, Issue(source, 1, "", reason, remedy, check="bad CSV")
            return
        while True:
            begins, lines.bytes = reader.line_num + 1, 0
            cells = next(reader, None)
            if cells is None:
                return
            if cells:
                yield begins, _row(header, cells, source, begins)
    except _TooLongError:
        yield 0, too_long(source, begins, most)
    except csv.Error as error:
        remedy = "put cells with quotes or line ends between quotes, and double the quotes inside"
        yield begins, Issue(source, begins, "", f"bad CSV: {error}", remedy, check="bad CSV")


class _TooLongError(Exception):
    pass


class _Lines:
    """Lines as text; a byte that is not UTF-8 stays in it as a lone surrogate, so that its row can be named. `bytes`
    counts those since it was set, at most `most`."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.bytes, self._first, self._stream, self._most = 0, True, stream, most
        self.head = b""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._most + 1)
        self.bytes += len(line)
        if self.bytes > self._most:
            raise _TooLongError
        if not line:
            raise StopIteration
        if self._first:
            self.head, self._first, line = line[:4], False, line.removeprefix(BOM_UTF8)
        return line.decode("utf-8", "surrogateescape")


def _row(header: list[str], cells: list[str], source: str, number: int) -> dict[str, Any] | Issue:
    if len(cells) != len(header):
        reason = f"has {len(cells)} cells, the header {len(header)}"
        return Issue(source, number, "", reason, "put cells with commas between quotes", check="bad CSV")
    for name, cell in zip(header, cells, strict=True):
        if broken := _broken(cell):
            reason = f"byte {broken} is not UTF-8"
            return Issue(source, number, name, reason, "save the file as UTF-8", check="bad UTF-8")
    try:
        return {name: _value(cell) for name, cell in zip(header, cells, strict=True)}
    except TwiceError as error:
        reason, remedy = "is there twice in one object: one of the two would be lost", "keep one of them"
        return Issue(source, number, shortened(error.key), reason, remedy, check="field twice")


def _broken(text: str) -> str:
    """The first byte of a text that is not UTF-8; empty without one."""
    broken = "" if text.isascii() else next((c for c in text if "\udc80" <= c <= "\udcff"), "")
    return broken and f"{ord(broken) - 0xDC00:#04x}"


def _value(cell: str) -> Any:
    if not cell:
        return None
    if cell.startswith("[{") and cell.endswith("}]"):
        try:
            listed = json.loads(cell)
            return json.loads(cell, object_pairs_hook=once) if _is_list_of_objects(listed) else cell
        except TwiceError:
            raise
        except (ValueError, RecursionError):
            return cell
    return cell


def _is_list_of_objects(value: list[Any]) -> bool:
    return any(isinstance(item, dict) and any(key in item for key in _OBJECTS) for item in value)
