"""Files of a few bytes that unpack to more than memory holds: refused by name, before they are unpacked."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data import arrow_messages
from twofold.data.arrow_sizes import are_small, at_once, row_sizes
from twofold.data.formats import read
from twofold.data.readers import rows
from twofold.data.reading import Reading, RowBounds
from twofold.data.unpacking import ALWAYS, Allowance
from twofold.data.validate import check

LONG = "x" * 10_000_000
NEW = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}


def pairs(count: int, prompt: Any) -> pa.Table:
    return pa.table({"prompt": prompt, "chosen": ["a"] * count, "rejected": ["b"] * count})


def repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))


def write_arrow(path: Path, table: pa.Table, form: str = "stream", **options: Any) -> None:
    how = pa.ipc.IpcWriteOptions(**options)
    with pa.OSFile(str(path), "wb") as stream, NEW[form](stream, table.schema, options=how) as writer:
        writer.write_table(table)


def items(count: int) -> pa.Table:
    """One row, whose list has `count` zeros."""
    zeros = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count, np.int8)))
    return pairs(1, ["p"]).append_column("scores", zeros)


def nested() -> pa.Table:
    """Two rows, whose lists have a hundred texts of a million letters; all are one."""
    lists = pa.ListArray.from_arrays(pa.array([0, 100, 200], pa.int32()), repeated("y" * 1_000_000, 200))
    return pairs(2, ["p"] * 2).append_column("responses", lists)


def views() -> pa.Table:
    """A thousand rows that all look at one text."""
    one = pa.array(["z" * 1_000_000])
    looked = pa.ListViewArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([1] * 1000, pa.int32()), one)
    return pairs(1000, ["p"] * 1000).append_column("responses", looked)


def packed_lines(path: Path, line: bytes, count: int) -> None:
    with gzip.open(path, "wb", 6) as stream:
        for _ in range(count):
            stream.write(line)


LINE = json.dumps({"prompt": LONG, "chosen": "a", "rejected": "b"}).encode() + b"\n"
BOMBS: dict[str, Callable[[Path], None]] = {
    "dictionary.parquet": lambda path: pq.write_table(pairs(300, repeated(LONG, 300)), path),
    "page.parquet": lambda path: pq.write_table(
        pairs(20, [LONG] * 20), path, compression="zstd", use_dictionary=False
    ),
    "items.parquet": lambda path: pq.write_table(items(20_000_000), path),
    "nested.parquet": lambda path: pq.write_table(nested(), path, compression="zstd"),
    "zstd.arrow": lambda path: write_arrow(path, pairs(10, [LONG] * 10), compression="zstd"),
    "lz4.arrow": lambda path: write_arrow(path, pairs(10, [LONG] * 10), "file", compression="lz4"),
    "items.arrow": lambda path: write_arrow(path, items(20_000_000), compression="zstd"),
    "nulls.arrow": lambda path: write_arrow(path, pa.table({"prompt": pa.nulls(10**9)})),
    "views.arrow": lambda path: write_arrow(path, views()),
    "dictionary.arrow": lambda path: write_arrow(path, pairs(300, repeated("w" * 1_000_000, 300))),
    "lines.jsonl.gz": lambda path: packed_lines(path, LINE, 10),
    "blank.jsonl.gz": lambda path: packed_lines(path, b" " * 1_000_000 + b"\n", 100),
    "cells.csv.gz": lambda path: packed_lines(path, b"prompt,chosen,rejected\n" + b"x," * 3_000_000 + b"x\n", 12),
}  # fmt: skip
READ = """
import re, sys, time
from twofold.data.formats import scan
began = time.process_time()
found = scan(sys.argv[1])
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024, time.process_time() - began)
print([f.check for f in found.faults if not f.row], "\\n".join(f.reason + f.remedy for f in found.faults if not f.row))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_unpacks_too_far_is_refused_and_costs_little(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    BOMBS[name](path)
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    figures, answer = done.stdout.splitlines()
    memory, seconds = map(float, figures.split())
    assert answer.startswith("['unpacks too far'] unpacks to more than ")
    assert f"{max(ALWAYS, 100 * path.stat().st_size):,} bytes" in answer
    assert "data.bounds.growth (--growth)" in answer
    assert memory <= 300
    assert seconds < 10


def test_what_is_meant_so_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pairs(80, repeated("x" * 1_000_000, 80)), path)
    assert path.stat().st_size < 100_000
    assert [f.check for f in check(str(path)).errors] == ["unpacks too far"]
    assert len(read(Reading(str(path), bounds=RowBounds(growth=100_000))).records) == 80


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_row_that_is_too_long_is_named_and_the_others_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    prompts = [str(n) for n in range(200)]
    prompts[70] = prompts[72] = "x" * 3000
    table = pairs(200, prompts)
    pq.write_table(table, path) if suffix == "parquet" else write_arrow(path, table)
    report = check(Reading(str(path), bounds=RowBounds(bytes=2000)))
    assert [(f.row, f.check) for f in report.errors] == [(71, "row too long"), (73, "row too long")]
    assert "at most 2,000 are read" in report.errors[0].reason
    assert "data.bounds.bytes" in report.errors[0].remedy
    assert report.records == 198
    assert check(Reading(str(path), bounds=RowBounds(bytes=4000))).ok


def test_sizes_are_what_rows_hold(tmp_path: Path) -> None:
    path, text = tmp_path / "x", pa.array(["a", None, "ccc"])
    path.write_bytes(b"x")
    allowance = Allowance(path, 1)
    columns: dict[str, tuple[Any, list[float]]] = {
        "text": (text, [9, 8, 11]),
        "large": (text.cast(pa.large_string()), [9, 8, 11]),
        "view": (pa.array(["d" * 20, None, "ccc"], pa.string_view()), [28, 8, 11]),
        "bytes": (text.cast(pa.binary()), [9, 8, 11]),
        "number": (pa.array([1, None, 3]), [8, 8, 8]),
        "dictionary": (text.dictionary_encode(), [9, 0, 11]),
        "run": (pa.RunEndEncodedArray.from_arrays(pa.array([2, 3]), pa.array(["aa", "b"])), [10, 10, 9]),
        "list": (pa.array([["a", "bb"], None, []]), [8 + 9 + 10, 8, 8]),
        "fixed": (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)), [24, 24, 24]),
        "map": (pa.array([[("k", "vv")], [], None], pa.map_(pa.string(), pa.string())), [8 + 8 + 9 + 10, 8, 8]),
        "struct": (pa.array([{"a": "x"}, {"a": None}, None]), [17, 16, 16]),
        "lists of one": (
            pa.ListViewArray.from_arrays(pa.array([0, 0, 0], pa.int32()), pa.array([1, 1, 0], pa.int32()), text[:1]),
            [17, 17, 8],
        ),
    }  # fmt: skip
    for name, (column, sizes) in columns.items():
        assert row_sizes(pa.record_batch({"x": column}), allowance).tolist() == sizes, name
        assert row_sizes(pa.record_batch({"x": column}).slice(1), allowance).tolist() == sizes[1:], name
    both = pa.record_batch({"a": columns["text"][0], "b": columns["list"][0]})
    assert row_sizes(both, allowance).tolist() == [36, 16, 19]
    small = {n for n, (column, _) in columns.items() if are_small(pa.record_batch({"x": column}), 1000)}
    assert small == {"text", "bytes", "number", "list", "map", "struct"}
    assert not are_small(both, 10)


def test_rows_are_decoded_together_up_to_a_budget() -> None:
    many = at_once(np.full(130, 10.0), 1000)
    assert [(run.start, run.stop) for run in many] == [(0, 64), (64, 128), (128, 130)]
    long = at_once(np.array([10.0, 2000, 10, 10, 3000]), 1000)
    assert [(run.start, run.stop) for run in long] == [(0, 1), (1, 2), (2, 4), (4, 5)]
    large = at_once(np.array([4e7, 4e7, 1e7, 1e8]), 10**9)
    assert [(run.start, run.stop) for run in large] == [(0, 1), (1, 3), (3, 4)]
    assert at_once(np.array([]), 1) == []


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_rows_stay_what_they_are(tmp_path: Path, suffix: str) -> None:
    made = [
        {"prompt": f"p{n % 3}", "texts": [f"r{n}", "same" * 50], "n": [n, 0.5], "meta": {"tags": ["t"] * (n % 3)}}
        for n in range(150)
    ]  # fmt: skip
    table, path = pa.Table.from_pylist(made), tmp_path / f"rows.{suffix}"
    pq.write_table(table, path, row_group_size=40) if suffix == "parquet" else write_arrow(path, table)
    wide = RowBounds(bytes=300)  # rows are looked at one by one
    for bounds in (RowBounds(), wide):
        assert [row for _, row in rows(str(path), bounds=bounds)] == made


def test_a_buffer_that_is_stored_as_it_is_says_minus_one() -> None:
    """Arrow's mark for what packing would not have made smaller."""
    body = pa.py_buffer(b"".join(n.to_bytes(8, "little", signed=True) for n in (5, -1, 2**40)))
    assert [arrow_messages._stated(body, place) for place in (0, 8, 16)] == [5, -1, 2**40]
