"""Rows of JSON: lines and arrays, read in whatever pieces they arrive, with the place of what is wrong."""

from __future__ import annotations

import codecs
import io
import json
from typing import Any

import pytest

from twofold.data.issues import Issue
from twofold.data.json_rows import Numbered, array, lines, too_long
from twofold.data.json_text import TwiceError, once

LARGE = 1 << 20
DIGITS = "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits"
TWICE = "is there twice in one object: one of the two would be lost"


class Trickle(io.BytesIO):
    """Gives at most `most` bytes at a time, and counts what it was asked for."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most, self.asked = most, list[int]()

    def read(self, size: int | None = -1) -> bytes:
        self.asked.append(size or 0)
        return super().read(min(self.most, size or 0))


def told(numbered: list[Numbered]) -> list[tuple[int, Any]]:
    """Rows as they are, faults as (row, field, reason, severity, check)."""
    assert all(f.file == "f" and f.remedy for _, f in numbered if isinstance(f, Issue))
    return [
        (number, (row.row, row.field, row.reason, row.severity, row.check) if isinstance(row, Issue) else row)
        for number, row in numbered
    ]


def read_array(data: bytes, most: int = LARGE, piece: int = LARGE) -> list[tuple[int, Any]]:
    return told(list(array(Trickle(data, piece), "f", most)))


def read_lines(data: bytes, most: int = LARGE) -> list[tuple[int, Any]]:
    return told(list(lines(io.BytesIO(data), "f", most)))


ROWS = [{"a": "é" * 3, "b": [1, -2.5, True, None, {}]}, {}, {"c": '😀\n"}]'}]
BOM = (0, (0, "", "starts with a byte order mark", "warning", "BOM"))


@pytest.mark.parametrize("piece", [3, 4, 5, 7, 11, LARGE])
@pytest.mark.parametrize("how", [{}, {"indent": 3}, {"ensure_ascii": False}, {"ensure_ascii": False, "indent": 1}])
def test_an_array_is_read_in_any_pieces(piece: int, how: dict[str, Any]) -> None:
    text = json.dumps(ROWS, **how).encode()
    assert read_array(text, piece=piece) == list(enumerate(ROWS, 1))
    assert read_array(b" \n\t" + text + b"\r\n ", piece=piece) == list(enumerate(ROWS, 1))
    assert read_array(codecs.BOM_UTF8 + text, piece=piece) == [BOM, *enumerate(ROWS, 1)]


@pytest.mark.parametrize("piece", [3, 4, 6, LARGE])
@pytest.mark.parametrize(
    ("text", "count", "reason"),
    [
        ("", 0, "bad JSON at line 1, column 1: Expecting '['"),
        ("{}", 0, "bad JSON at line 1, column 1: Expecting '['"),
        ("\n [", 0, "bad JSON at line 2, column 3: Expecting value"),
        ("[{}", 1, "bad JSON at line 1, column 4: Expecting ',' or ']'"),
        ("[{},]", 1, "bad JSON at line 1, column 5: Expecting value"),
        ("[{}\n\n  {}]", 1, "bad JSON at line 3, column 3: Expecting ',' or ']'"),
        ('[{"a": 1},\n{"b": tru}]', 1, "bad JSON at line 2, column 7: Expecting value"),
        ('[{"a": 1},\n\n{"b" 2}]', 1, "bad JSON at line 3, column 6: Expecting ':' delimiter"),
        ("[{}, {}] []", 2, "bad JSON at line 1, column 10: Extra data"),
        ("[{}]\n\n x", 1, "bad JSON at line 3, column 2: Extra data"),
        ('[{"a": "b', 0, "bad JSON at line 1, column 8: Unterminated string starting at"),
        ('[{"a": "é\n"}]', 0, "bad JSON at line 1, column 10: Invalid control character at"),
        ('[{"a": {"b": 1, "c": 2, "b": 3}}]', 0, f"in row 1, {TWICE}"),
    ],
)  # fmt: skip
def test_the_place_of_a_fault_does_not_depend_on_the_pieces(piece: int, text: str, count: int, reason: str) -> None:
    found = read_array(text.encode(), piece=piece)
    assert len(found) == count + 1
    field, check = ("b", "field twice") if "twice" in reason else ("", "bad JSON")
    assert found[-1] == (0, (0, field, reason, "error", check))


@pytest.mark.parametrize("piece", [3, 4, 5, LARGE])
@pytest.mark.parametrize("head", [b"[", b'[{"a": "\xc3\xa9\xc3\xa9"}, ', codecs.BOM_UTF8 + b"["])
def test_a_byte_that_is_not_utf8_is_counted_from_the_files_first(piece: int, head: bytes) -> None:
    whole = head + b'{"a": "\xff'
    found = read_array(whole + b'"}]', piece=piece)[-1]
    assert found == (0, (0, "", f"byte {len(whole)} (0xff) is not UTF-8", "error", "bad UTF-8"))
    cut = read_array(head + b'{"a": "\xc3', piece=piece)[-1][1]
    assert cut[2] == f"byte {len(head) + 8} (0xc3) is not UTF-8"


def test_items_that_are_no_objects_are_named_by_their_place() -> None:
    assert read_array(b'[[], "a", 1, null, true, {}]') == [
        *((n, (n, "", f"the row is {kind}, not an object with named fields", "error", "bad JSON"))
          for n, kind in enumerate(("a list", "text", "a number", "null", "a boolean"), 1)),
        (6, {}),
    ]  # fmt: skip
    assert read_array(b"[{}, " + b"9" * 5000 + b"]")[1] == (
        0,
        (0, "", f"in row 2, bad JSON: {DIGITS}", "error", "bad JSON"),
    )
    assert read_array(b"[]") == read_array(b" [ \n ] ") == []


@pytest.mark.parametrize("piece", [3, 5, LARGE])
def test_an_item_may_have_as_many_letters_as_a_row(piece: int) -> None:
    item = {"a": "x" * 40}
    size = len(json.dumps(item))
    text = json.dumps([{"b": 1}, item, {"c": 2}]).encode()
    assert read_array(text, size, piece) == [(1, {"b": 1}), (2, item), (3, {"c": 2})]
    found = read_array(text, size - 1, piece)
    reason = f"row 2 is longer than {size - 1} bytes; it was not read, nor was what follows"
    assert found == [(1, {"b": 1}), (0, (0, "", reason, "error", "row too long"))]
    endless = read_array(b'[{"a": "' + b"x" * 100, 60, piece)[-1][1]
    assert endless[2] == "row 1 is longer than 60 bytes; it was not read, nor was what follows"


def test_a_long_item_is_read_in_blocks_that_double() -> None:
    item = {"a": "x" * (10 << 20)}
    stream = Trickle(json.dumps([item]).encode(), 1 << 40)
    assert [row for _, row in array(stream, "f", 16 << 20)] == [item]
    assert stream.asked[:2] == [3, 1 << 20]
    assert len(stream.asked) < 9
    assert max(stream.asked) <= 16 << 20


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert read_lines(b'{"a": 1}\n\n \t\r\n{"b": "\xc3\xa9"}\r\n{}') == [(1, {"a": 1}), (4, {"b": "é"}), (5, {})]
    assert read_lines(b"") == []


def test_byte_order_marks_are_warned_of_on_every_line() -> None:
    mark = codecs.BOM_UTF8
    found = read_lines(mark + b'{"a": 1}\n' + mark + b'{"b": 2}\n' + mark)
    warned = [(n, (n, "", "starts with a byte order mark", "warning", "BOM")) for n in (1, 2, 3)]
    assert found == [warned[0], (1, {"a": 1}), warned[1], (2, {"b": 2}), warned[2]]


@pytest.mark.parametrize(
    ("line", "reason", "check"),
    [
        (b'{"a": \n', "bad JSON at column 7: Expecting value", "bad JSON"),
        (b'{"a": ', "the last line is cut off: it is no complete JSON and has no line end", "truncated last line"),
        (b'{"a": "\xc3(', "byte 8 (0xc3) is not UTF-8", "bad UTF-8"),
        (b"[1]", "the row is a list, not an object with named fields", "bad JSON"),
        (b'"a"\n', "the row is text, not an object with named fields", "bad JSON"),
        (b"[" * 100_000 + b"\n", "bad JSON: it is nested too deeply", "bad JSON"),
        (b"9" * 5000 + b"\n", f"bad JSON: {DIGITS}", "bad JSON"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_the_next_is_read(line: bytes, reason: str, check: str) -> None:
    assert read_lines(b"{}\n" + line) == [(1, {}), (2, (2, "", reason, "error", check))]
    if line.endswith(b"\n"):
        assert read_lines(b"{}\n" + line + b"{}\n")[2:] == [(3, {})]


def test_a_key_that_is_there_twice_is_named() -> None:
    key = "k" * 70
    (found,) = read_lines(f'{{"{key}": 1, "b": 2, "{key}": 3, "b": 4}}'.encode())
    assert found == (1, (1, f"{'k' * 60}…", TWICE, "error", "field twice"))
    assert once([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    with pytest.raises(TwiceError, match=r"^the key 'kkk.*k' is there twice in one object$") as error:
        once([("b", 1), (key, 1), (key, 2), ("b", 3)])
    assert (error.value.key, len(str(error.value))) == (key, len("the key '' is there twice in one object") + 60)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_utf16_and_pointers_end_the_reading(mark: bytes) -> None:
    found = read_lines(mark + b"{\n}\n")
    assert found == [(1, (1, "", "the file is UTF-16", "error", "bad UTF-8"))]
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    reason = "the file is a Git LFS pointer: its contents were not fetched"
    assert read_lines(pointer) == [(1, (1, "", reason, "error", "unreadable"))]
    later = [check for _, (_, _, _, _, check) in read_lines(b"[]\n" + pointer + mark + b"\n")]
    assert later == ["bad JSON", "bad JSON", "bad JSON", "bad UTF-8"]


def test_a_line_may_have_as_many_bytes_as_a_row() -> None:
    text = b'{"a": 1}\n{"b": "xx"}\n{}\n'
    assert len(read_lines(text, 12)) == 3
    assert read_lines(text, 11) == [
        (1, {"a": 1}),
        (0, (0, "", "row 2 is longer than 11 bytes; it was not read, nor was what follows", "error", "row too long")),
    ]
    fault = too_long("g", 7, 16 << 20)
    assert (fault.file, fault.row, fault.reason[:32]) == ("g", 0, "row 7 is longer than 16,777,216 ")
    assert "data.bounds.bytes (--row-bytes)" in fault.remedy
