"""What is wrong with a file, a folder or a name, in full; and how far a packed one may unpack, to the byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data import arrow_rows, arrow_sizes, readers, unpacking
from twofold.data.arrow_rows import damaged, parquet, tables
from twofold.data.issues import Issue
from twofold.data.reading import RowBounds
from twofold.data.unpacking import Allowance, UnpackedError, bounded
from twofold.errors import DataError

ROW = {"prompt": "q", "completion": "a"}
LINE = json.dumps(ROW).encode() + b"\n"
AGAIN = "copy or write the file again"


def refusal(work: Callable[[], Any]) -> tuple[str, str, str | None]:
    with pytest.raises(DataError) as error:
        work()
    return error.value.what, error.value.where, error.value.remedy


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (gzip.compress(LINE, mtime=0), ".gz"), (b"\x28\xb5\x2f\xfd rest", ".zst"), (b"PAR1\x15 rest", ".parquet"),
        (b"ARROW1\0\0 rest", ".arrow"), (b"ARROW1\0\0", ".arrow"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("rows.jsonl", ".jsonl"), ("rows.v2.csv", ".v2.csv"), ("rows.a.b.json", ".b.json"),
        (f"rows.{'y' * 30}.ndjson", f"{'y' * 13}.ndjson"), (".jsonl", "nothing"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_than_its_name_is_named(
    tmp_path: Path, head: bytes, kind: str, name: str, ending: str
) -> None:
    """By the last two endings of its name, or the last 20 letters of them."""
    path = tmp_path / name
    path.write_bytes(head)
    reason = f"the file begins as {kind} files do, and its name ends in {ending}"
    remedy = f"give it a name that ends in {kind}"
    assert list(readers.rows(str(path))) == [(0, Issue(str(path), 0, "", reason, remedy, check="unreadable"))]


def test_an_array_may_begin_behind_4095_spaces(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b" " * 4095 + json.dumps([ROW, ROW]).encode())
    assert list(readers.rows(str(path))) == [(1, ROW), (2, ROW)]


def test_a_pattern_that_matches_nothing_names_five_files_of_its_folder(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.jsonl").write_bytes(LINE)
    pattern = str(tmp_path / "*.csv")
    names = ", ".join(f"`{number}.jsonl`" for number in range(5))
    assert refusal(lambda: readers.files(pattern)) == (
        "no file matches this pattern", pattern, f"`{tmp_path}` holds {names} and 2 more",
    )  # fmt: skip


def test_a_name_that_the_system_refuses_is_shortened() -> None:
    name = "x" * 300 + ".jsonl"
    assert refusal(lambda: readers.rows(name)) == (
        "cannot be looked at: File name too long", "x" * 60 + "…", "check the path and its rights",
    )  # fmt: skip
    assert refusal(lambda: readers.rows("zero\0.jsonl")) == ("no such file", "zero\0.jsonl", "check the path")
    assert refusal(lambda: readers.rows(" ")) == (
        "an empty name is no file", "' '", "name a file, a folder or a data set",
    )  # fmt: skip


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINE)
    monkeypatch.setattr(hashlib, "file_digest", fail)
    assert refusal(lambda: readers.digest(str(path))) == (
        "cannot be read: Input/output error", str(path), "check the rights",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["state.json", "dataset_dict.json"])
def test_a_folder_that_was_not_saved_whole_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{")
    what, where, remedy = refusal(lambda: readers.rows(str(tmp_path)))
    assert what.startswith("not readable as a saved data set: ")
    assert (where, remedy) == (str(tmp_path), "save it again")


def saved(folder: Path, text: str) -> Path:
    """A folder of `datasets` with one row; gives its file."""
    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"prompt": text}]).save_to_disk(folder)
    return next(folder.glob("*.arrow"))


def test_a_saved_folder_may_unpack_as_far_as_the_bounds_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "ALWAYS", 100)
    file = saved(tmp_path / "saved", "x" * 10_000)
    monkeypatch.setattr(arrow_rows, "row_sizes", lambda *_: pa.array([3 * file.stat().st_size]).to_numpy())
    for growth in (1, 2, 3):
        bounds = RowBounds(growth=growth)
        if growth == 3:
            assert list(readers.rows(str(tmp_path / "saved"), bounds=bounds)) == [(1, {"prompt": "x" * 10_000})]
            continue
        size = file.stat().st_size
        reason = f"unpacks to more than {growth * size:,} bytes, {growth} times its own {size:,}"
        assert refusal(lambda bounds=bounds: readers.rows(str(tmp_path / "saved"), bounds=bounds)) == (
            f"not readable as Arrow: {reason}", str(file), "copy or make the data set again",
        )  # fmt: skip


def test_what_the_hub_left_in_its_cache_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded(list[Any]):
        cache_files = ({"filename": str(tmp_path / "a.arrow")},)

    (tmp_path / "a.arrow").write_bytes(b"no arrow")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Loaded([ROW]))
    what, where, remedy = refusal(lambda: readers.rows("org/set"))
    assert what.startswith("not readable as Arrow: ")
    assert (where, remedy) == (str(tmp_path / "a.arrow"), "copy or make the data set again")
    limits = list[int]()
    monkeypatch.setattr(readers, "damaged", lambda paths, growth: limits.append(growth))
    assert list(readers.rows("org/set", bounds=RowBounds(growth=7))) == [(1, ROW)]
    assert limits == [7]


def test_a_file_that_breaks_off_is_at_fault_in_full(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(b"no gzip")
    reason = "cannot be read to its end: Not a gzipped file (b'no')"
    assert list(readers.rows(str(path))) == [(1, Issue(str(path), 1, "", reason, AGAIN, check="unreadable"))]


@pytest.mark.parametrize(("always", "growth"), [(100, 1), (10, 10), (1, 10), (99, 10)])
def test_a_file_may_unpack_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: int, growth: int
) -> None:
    """100 bytes either way: of ten bytes by ten, or what is always allowed."""
    monkeypatch.setattr(unpacking, "ALWAYS", always)
    path = tmp_path / "rows"
    path.write_bytes(b"x" * 10)
    allowance = Allowance(path, growth)
    allowance.take(60)
    allowance.take(40)
    allowance.refuse(100)
    for work in (lambda: allowance.refuse(100.5), lambda: allowance.take(1)):
        with pytest.raises(UnpackedError):
            work()
    times = ", 10 times its own 10" if growth == 10 else ""
    assert allowance.reason == f"unpacks to more than 100 bytes{times}"
    assert allowance.issue("f", 7) == Issue(
        "f", 0, "", f"unpacks to more than 100 bytes{times}; row 7 was not read, nor was what follows",
        "check where the file comes from; where it is meant so, raise data.bounds.growth (--growth)",
        check="unpacks too far",
    )  # fmt: skip


def test_as_many_bytes_as_are_always_allowed_are_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "ALWAYS", 100)
    path = tmp_path / "rows"
    path.write_bytes(b"x" * 10)
    assert Allowance(path, 10).reason == "unpacks to more than 100 bytes"


def test_a_packed_file_is_read_in_large_blocks_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.BytesIO):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.sizes = list[int | None]()

        def read(self, size: int | None = -1) -> bytes:
            self.sizes.append(size)
            return super().read(size)

    monkeypatch.setattr(unpacking, "ALWAYS", 50)
    path = tmp_path / "rows"
    path.write_bytes(b"x")
    for count in (50, 51):
        inner = Stream(b"y" * count)
        outer = bounded(inner, Allowance(path, 1))
        assert outer.readable()
        if count == 50:
            assert outer.readline() == b"y" * 50
            assert inner.sizes[0] == 8 * io.DEFAULT_BUFFER_SIZE
            outer.close()
            assert inner.closed
        else:
            with pytest.raises(UnpackedError):
                outer.readline()


def write_stream(path: Path, batch: pa.RecordBatch) -> Path:
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def test_a_table_that_unpacks_too_far_is_damaged_in_these_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text of 1,000 letters takes 1,008 bytes; the limit of its file is 64 MiB, or its own size by the growth."""
    path = write_stream(tmp_path / "f.arrow", pa.RecordBatch.from_pydict({"a": ["x" * 1000]}))
    size = path.stat().st_size
    assert 1008 < size < 2000
    monkeypatch.setattr(arrow_rows, "row_sizes", lambda *_: pa.array([2 * size + 1]).to_numpy())
    assert damaged([path]) is None
    monkeypatch.setattr(unpacking, "ALWAYS", 1)
    assert damaged([path]) is None, "a hundred times its size, unless another number is given"
    assert damaged([path], 3) is None
    assert damaged([path], 2) == (path, f"unpacks to more than {2 * size:,} bytes, 2 times its own {size:,}")


def test_letters_that_are_none_are_refused_before_a_row_is_made(tmp_path: Path) -> None:
    """The writer of a column of texts may have put any bytes there."""
    offsets, data = pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")
    texts = pa.StringArray.from_buffers(1, offsets, data)
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table([texts], names=["a"]), path)
    ((number, fault),) = tables(parquet, path, "f")
    assert isinstance(fault, Issue)
    assert (number, fault.row, fault.field, fault.remedy, fault.check) == (0, 0, "", AGAIN, "unreadable")
    assert fault.reason.startswith("not readable as parquet: ")


def test_values_are_counted_before_their_sizes_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bytes each, of a whole batch and of one array."""
    path = tmp_path / "f"
    path.write_bytes(b"x")
    array, batch = pa.nulls(10), pa.RecordBatch.from_arrays([pa.nulls(10)], ["a"])
    for most in (80, 79):
        monkeypatch.setattr(unpacking, "ALWAYS", most)
        allowance = Allowance(path, 1)
        if most == 80:
            assert arrow_sizes._sizes(array, allowance).tolist() == [8.0] * 10
            assert arrow_sizes.row_sizes(batch, allowance).tolist() == [8.0] * 10
            continue
        for work in (lambda a=allowance: arrow_sizes._sizes(array, a), lambda a=allowance: arrow_sizes.row_sizes(
            batch, a
        )):  # fmt: skip
            with pytest.raises(UnpackedError):
                work()


def test_a_batch_of_too_many_rows_is_refused_before_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    monkeypatch.setattr(unpacking, "ALWAYS", 80)
    monkeypatch.setattr(arrow_sizes, "_sizes", lambda *_: 0)
    for rows, refused in ((10, False), (11, True)):
        batch = pa.RecordBatch.from_arrays([pa.nulls(rows)], ["a"])
        if refused:
            with pytest.raises(UnpackedError):
                arrow_sizes.row_sizes(batch, Allowance(tmp_path / "f", 1))
        else:
            assert arrow_sizes.row_sizes(batch, Allowance(tmp_path / "f", 1)).tolist() == [0.0] * 10
