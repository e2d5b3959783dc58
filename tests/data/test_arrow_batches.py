"""Rows of record batches by number: columns that are let go, rows that are too large, and faults that end a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data import arrow_rows
from twofold.data.arrow_rows import arrow, damaged, first_line, parquet, tables
from twofold.data.issues import Issue
from twofold.data.reading import RowBounds
from twofold.data.unpacking import Allowance, UnpackedError


def batch(**columns: list[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def numbered(path: Path, *batches: pa.RecordBatch | Exception, **how: Any) -> list[Any]:
    """The rows of `batches`, the last of which may be an error."""
    path.write_bytes(b"x")

    def read(path: Path, allowance: Allowance) -> Iterator[pa.RecordBatch]:
        for each in batches:
            if isinstance(each, Exception):
                raise each
            yield each

    return list(tables(read, path, "f", **how))


def test_rows_are_numbered_over_batches(tmp_path: Path) -> None:
    path = tmp_path / "f.arrow"
    found = numbered(path, batch(a=[1, 2], b=["x", "y"]), batch(a=[3], b=[None]), ignore=("c",))
    assert found == [(1, {"a": 1, "b": "x"}), (2, {"a": 2, "b": "y"}), (3, {"a": 3, "b": None})]
    assert numbered(path, batch(a=[1, 2], b=["x", "y"]), ignore=("b", "z")) == [(1, {"a": 1}), (2, {"a": 2})]


def test_a_column_that_is_there_twice_ends_a_file(tmp_path: Path) -> None:
    twice = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    ((number, fault),) = numbered(tmp_path / "f", twice, batch(a=[1]))
    assert number == 0
    assert fault == Issue("f", 0, "a", "is there twice: one of the two columns would be lost", "keep one of them",
                          check="field twice")  # fmt: skip


@pytest.mark.parametrize(("most", "large"), [(16, []), (15, [2]), (11, [2]), (10, [1, 2, 3])])
def test_a_row_of_more_bytes_than_one_may_have_is_a_fault(most: int, large: list[int], tmp_path: Path) -> None:
    """A text has its letters and eight bytes."""
    texts = ["abc", "abcdefgh", "xyz"]
    found = numbered(tmp_path / "f", batch(a=texts), bounds=RowBounds(bytes=most))
    assert [number for number, _ in found] == [1, 2, 3]
    for (number, row), text in zip(found, texts, strict=True):
        if number not in large:
            assert row == {"a": text}
            continue
        reason = f"unpacks to {len(text) + 8} bytes, at most {most} are read"
        assert (row.row, row.reason, row.check) == (number, reason, "row too long")


def test_what_fails_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "f"
    (first, (number, fault)) = numbered(path, batch(a=[1]), OSError("torn page\nmore"))
    assert first == (1, {"a": 1})
    assert (number, fault.row, fault.reason) == (2, 2, "not readable as Arrow: torn page")
    ((number, fault),) = numbered(path, KeyError())
    assert (number, fault.row, fault.reason, fault.check) == (0, 0, "not readable as Arrow: KeyError", "unreadable")
    (_, (number, fault)) = numbered(path, batch(a=[1]), UnpackedError())
    assert (number, fault.check) == (0, "unpacks too far")
    assert "; row 2 was not read, nor was what follows" in fault.reason


def test_parquet_is_named_where_it_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    path.write_bytes(b"no parquet at all")
    ((number, fault),) = tables(parquet, path, "f")
    assert number == 0
    assert fault.reason.startswith("not readable as parquet: ")  # type: ignore[union-attr]  # an issue


def test_times_that_python_cannot_hold_are_text(tmp_path: Path) -> None:
    far = pa.array([0, 2**62], pa.timestamp("us"))
    near = pa.array([dt.date(2020, 1, 2), None])
    found = numbered(tmp_path / "f", pa.RecordBatch.from_arrays([far, near, pa.array(["x", "y"])], ["t", "d", "s"]))
    assert [number for number, _ in found] == [1, 2]
    rows = [row for _, row in found]
    assert [row["s"] for row in rows] == ["x", "y"]
    assert rows[0]["d"] == dt.date(2020, 1, 2)
    assert rows[0]["t"].startswith("1970-01-01")
    assert isinstance(rows[1]["t"], str)


def test_other_values_that_cannot_be_read_name_their_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Column:
        type = pa.int64()

        def to_pylist(self) -> None:
            raise ValueError("odd value\nmore")

    with pytest.raises(arrow_rows._ColumnError, match="holds what cannot be read: odd value") as refused:
        arrow_rows._values("c", Column())
    monkeypatch.setattr(arrow_rows, "_rows", lambda batch: (_ for _ in ()).throw(refused.value))
    ((number, fault),) = numbered(tmp_path / "f", batch(a=[1]))
    assert (number, fault.row, fault.field, fault.check) == (1, 1, "c", "unreadable")
    assert fault.remedy == "write the column as text; or let it go: data.ignore=[c] (--ignore c)"


def write(path: Path, made: pa.RecordBatch, file: bool) -> Path:
    make = pa.ipc.new_file if file else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as out, make(out, made.schema) as writer:
        writer.write_batch(made)
    return path


@pytest.mark.parametrize("file", [True, False])
def test_streams_and_files_are_read(file: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "f.arrow", batch(a=[1, 2]), file)
    assert [each.to_pydict() for each in arrow(path, Allowance(path, 100))] == [{"a": [1, 2]}]
    assert (path.read_bytes()[:8] == b"ARROW1\0\0") == file
    assert damaged([path]) is None
    broken = tmp_path / "g.arrow"
    broken.write_bytes(path.read_bytes()[:60])
    found = damaged([path, broken, path])
    assert found is not None
    assert found[0] == broken
    assert found[1]


def test_parquet_is_decoded_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows together, and columns that stay dictionaries."""
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": ["x"] * 5, "b": ["y"] * 5}), path)
    monkeypatch.setattr(arrow_rows, "plan", lambda *_: (2, ["a"]))
    found = list(parquet(path, Allowance(path, 100)))
    assert [each.num_rows for each in found] == [2, 2, 1]
    assert [pa.types.is_dictionary(column.type) for column in found[0].columns] == [True, False]
    assert found[2].to_pydict() == {"a": ["x"], "b": ["y"]}


def test_the_first_line_of_an_error() -> None:
    assert [first_line(e) for e in (ValueError("a\nb"), ValueError(""), KeyError("x"))] == ["a", "ValueError", "'x'"]
