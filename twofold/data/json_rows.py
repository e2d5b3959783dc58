"""Rows of JSON: a line each, or the items of one array; never more of a file is held than one row may have."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

from twofold.data.chat import kind
from twofold.data.issues import Issue, shortened
from twofold.data.json_text import TwiceError, once

Row = dict[str, Any]
Numbered = tuple[int, Row | Issue]

_LFS = b"version https://git-lfs.github.com/spec/"
_BLOCK = 1 << 20
_ONE_OBJECT = "write one JSON object per line"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(object_pairs_hook=once)


def lines(stream: IO[bytes], source: str, most: int) -> Iterator[Numbered]:
    """A row a line, blank ones passed over; a line of more than `most` bytes ends the reading."""
    number = 0
    while line := stream.readline(most + 1):
        number += 1
        if len(line) > most:
            yield 0, too_long(source, number, most)
            return
        if number == 1 and line.startswith(_LFS):
            reason = "the file is a Git LFS pointer: its contents were not fetched"
            yield 1, Issue(source, 1, "", reason, "run `git lfs pull` where it came from", check="unreadable")
            return
        if number == 1 and (wide := wide_encoding(line)):
            yield 1, Issue(source, 1, "", f"the file is {wide}", "save the file as UTF-8", check="bad UTF-8")
            return
        if line.startswith(codecs.BOM_UTF8):
            yield number, _bom(source, number)
            line = line.removeprefix(codecs.BOM_UTF8)
        if line and not line.isspace():
            yield number, _row(line, source, number)


def wide_encoding(head: bytes) -> str:
    """The encoding of a text of more than one byte a letter, by its mark or by the zeros of its first letters."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or b"\0\0\0" in head[:4]:
        return "UTF-32"
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "UTF-16" if marked or (b"\0" in head[:2] and head[:2].strip(b"\0")) else ""


def too_long(source: str, number: int, most: int) -> Issue:
    """The fault of a source whose row `number` is longer than a row may be."""
    reason = f"row {number} is longer than {most:,} bytes; it was not read, nor was what follows"
    remedy = "write one row a line; where a row is meant to be so long, raise data.bounds.bytes (--row-bytes)"
    return Issue(source, 0, "", reason, remedy, check="row too long")


def _row(line: bytes, source: str, number: int) -> Row | Issue:
    row = _parsed(line, source, number)
    return row if isinstance(row, Issue) else _object(row, source, number)


def _parsed(data: bytes, source: str, number: int) -> Any | Issue:
    try:
        text = data.decode("utf-8").rstrip("\r\n")
        if text.startswith("{"):
            value, end = _DECODER.raw_decode(text)  # what loads makes of it, without a decoder of its own each time
            if end == len(text):
                return value
        return json.loads(text, object_pairs_hook=once)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} ({data[error.start]:#04x}) is not UTF-8"
        return Issue(source, number, "", reason, "save the file as UTF-8", check="bad UTF-8")
    except json.JSONDecodeError as error:
        if not data.endswith(b"\n") and _is_cut(error):
            reason = "the last line is cut off: it is no complete JSON and has no line end"
            return Issue(source, number, "", reason, "copy or write the file again", check="truncated last line")
        return _bad(source, number, f"bad JSON at column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return _not_read(error, source, number)


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether the text ends where JSON would continue: in a string, or in a word or an escape of up to six letters."""
    opens = error.doc.lstrip().startswith(("{", "["))
    at_end = opens and error.pos >= len(error.doc) - 6 and error.msg != "Extra data"
    return at_end or error.msg.startswith("Unterminated")


def _bad(source: str, number: int, reason: str) -> Issue:
    return Issue(source, number, "", reason, _ONE_OBJECT, check="bad JSON")


def _not_read(error: Exception, source: str, number: int) -> Issue:
    """The fault of JSON that is well-formed, and cannot be read all the same."""
    if isinstance(error, TwiceError):
        reason, remedy = "is there twice in one object: one of the two would be lost", "keep one of them"
        return Issue(source, number, shortened(error.key), reason, remedy, check="field twice")
    if isinstance(error, RecursionError):
        return _bad(source, number, "bad JSON: it is nested too deeply")
    return _bad(source, number, f"bad JSON: {str(error).partition(';')[0]}")


def array(stream: IO[bytes], source: str, most: int) -> Iterator[Numbered]:
    """The items of one array, each numbered by its place."""
    reader = _Items(stream, most)
    if reader.bom:
        yield 0, _bom(source, 0)
    number = 0
    try:
        for number, item in enumerate(reader, 1):
            yield number, _object(item, source, number)
    except json.JSONDecodeError as error:
        reason = f"bad JSON at line {reader.line(error.pos)}, column {reader.column(error.pos)}: {error.msg}"
        yield 0, _bad(source, 0, reason)
    except UnicodeDecodeError as error:
        reason = f"byte {reader.decoded + error.start + 1} ({error.object[error.start]:#04x}) is not UTF-8"
        yield 0, Issue(source, 0, "", reason, "save the file as UTF-8", check="bad UTF-8")
    except _TooLongError:
        yield 0, too_long(source, number + 1, most)
    except (ValueError, RecursionError) as error:
        fault = _not_read(error, source, 0)
        yield 0, replace(fault, reason=f"in row {number + 1}, {fault.reason}")


class _TooLongError(Exception):
    pass


class _Items:
    """The items of an array, read in blocks; `most` is the longest that one may be. Raises JSONDecodeError, whose place
    counts from where `_text` begins."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most = stream, most
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False
        self._lines, self._columns = 1, 0  # what is before `_text`
        self._head = stream.read(3)
        self.bom = self._head == codecs.BOM_UTF8
        self._read, self.decoded = 3 * self.bom, 0

    def __iter__(self) -> Iterator[Any]:
        self._feed(b"" if self.bom else self._head)
        self._expect("[")
        if self._next() == "]":
            self._at += 1
        else:
            while True:
                yield self._value()
                if self._expect(",]") == "]":
                    break
        if self._next():
            raise json.JSONDecodeError("Extra data", self._text, self._at)

    def line(self, place: int) -> int:
        """In which line of the file `place` of the text is."""
        return self._lines + self._text.count("\n", 0, place)

    def column(self, place: int) -> int:
        """In which column."""
        before = self._text.rfind("\n", 0, place)
        return place - before if before >= 0 else self._columns + place + 1

    def _feed(self, data: bytes) -> None:
        self.decoded = self._read - len(self._decoder.getstate()[0])
        self._read += len(data)
        self._text += self._decoder.decode(data, final=self._ended)

    def _more(self, size: int = _BLOCK) -> bool:
        """Read on; false at the end of the file. What has been used is let go."""
        if self._ended:
            return False
        self._lines, self._columns = self.line(self._at), self.column(self._at) - 1
        self._text, self._at = self._text[self._at :], 0
        data = self._stream.read(size)
        self._ended = not data
        self._feed(data)
        return True

    def _next(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, characters: str) -> str:
        if not (found := self._next()) or found not in characters:
            raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, characters))}", self._text, self._at)
        self._at += 1
        return found

    def _value(self) -> Any:
        """One item; where it goes beyond what was read, twice as much is read."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    if end - self._at > self._most:
                        raise _TooLongError
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - 16
                if self._ended or not cut:
                    raise
            if len(self._text) - self._at > self._most:
                raise _TooLongError
            self._more(max(_BLOCK, len(self._text) - self._at))


def _object(value: Any, source: str, number: int) -> Row | Issue:
    if isinstance(value, dict):
        return value
    reason = f"the row is {kind(value)}, not an object with named fields"
    return Issue(source, number, "", reason, 'write rows as {"prompt": …, …}', check="bad JSON")


def _bom(source: str, number: int) -> Issue:
    return Issue(source, number, "", "starts with a byte order mark", "save as UTF-8 without BOM", "warning", "BOM")
