"""How many rows of a parquet file are decoded together, and which columns stay dictionaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data import parquet_pages
from twofold.data.arrow_sizes import AT_ONCE
from twofold.data.parquet_pages import _zigzag, plan
from twofold.data.unpacking import Allowance, UnpackedError


@pytest.fixture(autouse=True)
def _budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 bytes instead of 64 MiB."""
    monkeypatch.setattr(parquet_pages, "BUDGET", 1000)


def planned(tmp_path: Path, table: pa.Table, *, dictionary: bool = True) -> tuple[int, list[str]]:
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, use_dictionary=dictionary)
    with pq.ParquetFile(path) as file:
        return plan(file, path, Allowance(path, 1))


def test_rows_decoded_at_once_are_those_that_fit(tmp_path: Path) -> None:
    """Numbers take 8 bytes each; a value of a dictionary takes its bytes and 4 for their number."""
    assert planned(tmp_path, pa.table({"a": list(range(300))}), dictionary=False) == (AT_ONCE, [])
    assert planned(tmp_path, pa.table({"a": ["x" * 96] * 300})) == (1000 // 108, [])
    assert planned(tmp_path, pa.table({"a": ["x" * 96] * 300, "b": ["y" * 46] * 300})) == (1000 // 166, [])
    assert planned(tmp_path, pa.table({"a": ["x"] * 0})) == (AT_ONCE, [])


def test_a_dictionary_beyond_the_budget_stays_one(tmp_path: Path) -> None:
    assert planned(tmp_path, pa.table({"a": ["x" * 996] * 300})) == (1, [])
    assert planned(tmp_path, pa.table({"a": ["x" * 997] * 300})) == (AT_ONCE, ["a"])
    assert planned(tmp_path, pa.table({"a": ["x" * 997] * 300, "b": ["x" * 96] * 300})) == (1000 // 116, ["a"])


def test_items_of_lists_repeat_the_value(tmp_path: Path) -> None:
    assert planned(tmp_path, pa.table({"a": [["x" * 96] * 2] * 300})) == (1000 // 216, [])
    assert planned(tmp_path, pa.table({"a": [["x" * 96] * 11] * 300})) == (1000 // 88, ["a.list.element"])


def test_the_row_group_with_the_largest_dictionary_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": ["x" * 96] * 100 + ["x" * 6] * 100}), path, row_group_size=100)
    with pq.ParquetFile(path) as file:
        assert plan(file, path, Allowance(path, 1)) == (1000 // 108, [])


def test_a_file_that_unpacks_too_far_is_refused(tmp_path: Path) -> None:
    """8 bytes for each value, however few it has in the file."""
    with pytest.raises(UnpackedError):
        planned(tmp_path, pa.table({"a": np.zeros(8 * 2**20 + 1, np.int8)}), dictionary=False)


@pytest.mark.parametrize(
    ("data", "place", "expected"),
    [
        (b"\x00", 0, (0, 1)), (b"\x01", 0, (-1, 1)), (b"\x02", 0, (1, 1)), (b"\x7f", 0, (-64, 1)),
        (b"\x80\x01", 0, (64, 2)), (b"\xff\x01", 0, (-128, 2)), (b"\x15\x04\x15\x80\x02", 3, (128, 5)),
        (b"\x80\x80\x01", 0, (8192, 3)), (b"", 0, (0, 0)), (b"\x02", 1, (0, 1)),
    ],
)  # fmt: skip
def test_numbers_of_thrift(data: bytes, place: int, expected: tuple[int, int]) -> None:
    assert _zigzag(data, place) == expected
