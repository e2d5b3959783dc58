"""Rows of CSV by the line where each begins, and what ends or spoils the reading."""

from __future__ import annotations

import io
from typing import Any

import pytest

from twofold.data.csv import rows
from twofold.data.issues import Issue


def read(data: bytes, most: int = 1000) -> list[tuple[int, Any]]:
    """Rows as they are, faults as (row, field, reason, check)."""
    found = list(rows(io.BytesIO(data), "f", most))
    assert all(r.file == "f" and r.remedy and r.severity == "error" for _, r in found if isinstance(r, Issue))
    return [(n, (r.row, r.field, r.reason, r.check) if isinstance(r, Issue) else r) for n, r in found]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"a,b\n", []),
        (b"a,b\n1,\n\n,2\r\n", [(2, {"a": "1", "b": None}), (4, {"a": None, "b": "2"})]),
        (b'\xef\xbb\xbfa\n"x\n\ny"\nz', [(2, {"a": "x\n\ny"}), (5, {"a": "z"})]),
        (b"a\n\xef\xbb\xbfx\n", [(2, {"a": "\ufeffx"})]),
        (b'a\n"[{""role"": 1}]"\n[{x}]\n"[{""role"": 1} ]"\n"[1]"\n"[{""x"": 1, ""x"": 2}]"\n',
         [(2, {"a": [{"role": 1}]}), (3, {"a": "[{x}]"}), (4, {"a": '[{"role": 1} ]'}), (5, {"a": "[1]"}),
          (6, {"a": '[{"x": 1, "x": 2}]'})]),
        (b'a\n"[{""x"": ' + b"[" * 300 + b'}]"\n', [(2, {"a": '[{"x": ' + "[" * 300 + "}]"})]),
        (b'a\n"[{""x"": ' + b"[" * 5_000 + b'}]"\n', [(2, {"a": '[{"x": ' + "[" * 5_000 + "}]"})]),
    ],
)  # fmt: skip
def test_cells_are_texts_nulls_and_chats(data: bytes, found: list[tuple[int, Any]]) -> None:
    assert read(data, 100_000) == found


TWICE = "is there twice: one of the two columns would be lost"


@pytest.mark.parametrize(
    ("data", "fault", "more"),
    [
        (b"a,b,a\n1,2,3\n", (1, (1, "a", TWICE, "field twice")), []),
        (b"a,b\n1\n2,3\n", (2, (2, "", "has 1 cells, the header 2", "bad CSV")), [(3, {"a": "2", "b": "3"})]),
        (b"a\n1,2\n3\n", (2, (2, "", "has 2 cells, the header 1", "bad CSV")), [(3, {"a": "3"})]),
        (b"a,b\n1,x\xff\n2,3\n", (2, (2, "b", "byte 0xff is not UTF-8", "bad UTF-8")), [(3, {"a": "2", "b": "3"})]),
        (b"a,b\xf6\n1,2\n", (1, (1, "", "byte 0xf6 of a column's name is not UTF-8", "bad UTF-8")), []),
        (b"prompt;chosen\n1;2\n", (1, (1, "", "its cells are separated by ';'", "bad CSV")), []),
        (b"prompt\tchosen\n1\t2\n", (1, (1, "", r"its cells are separated by '\t'", "bad CSV")), []),
        (b"a;b,c\n1,2\n", None, [(2, {"a;b": "1", "c": "2"})]),
        ("a,b\n1,2\n".encode("utf-16"), (1, (1, "", "the file is UTF-16", "bad UTF-8")), []),
        (b"a,b\n1,\x80\n", (2, (2, "b", "byte 0x80 is not UTF-8", "bad UTF-8")), []),
        (b'a\n"[{""role"": 1, ""role"": 2}]"\n3\n',
         (2, (2, "role", "is there twice in one object: one of the two would be lost", "field twice")),
         [(3, {"a": "3"})]),
    ],
)  # fmt: skip
def test_a_row_at_fault_is_named_and_the_next_is_read(
    data: bytes, fault: tuple[int, Any] | None, more: list[Any]
) -> None:
    assert read(data) == [*([] if fault is None else [fault]), *more]


def test_bad_quotes_end_the_reading_where_their_row_begins() -> None:
    first, last = read(b'a,b\n1,2\n"x\ny" z,3\n4,5\n')
    assert first == (2, {"a": "1", "b": "2"})
    assert (last[0], last[1][:2], last[1][3]) == (3, (3, ""), "bad CSV")
    assert last[1][2].startswith("bad CSV: ")


def test_lines_and_cells_have_a_most() -> None:
    reason = "row {} is longer than 12 bytes; it was not read, nor was what follows"
    assert read(b"a\n" + b"x" * 11 + b"\n", 12) == [(2, {"a": "x" * 11})]
    assert read(b"a\n1\n" + b"x" * 12 + b"\n3\n", 12) == [
        (2, {"a": "1"}), (0, (0, "", reason.format(3), "row too long")),
    ]  # fmt: skip
    assert read(b'a\n1\n"xxxxxxx\nyyyyyyy"\n', 12)[-1] == (0, (0, "", reason.format(3), "row too long"))
    assert read(b"x" * 13, 12) == [(0, (0, "", reason.format(1), "row too long"))]
