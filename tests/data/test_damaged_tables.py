"""Arrow and parquet files with a flipped bit: refused by name, or read as rows; never the end of the program.

Neither format sums its bytes unless the writer asked for it, so that a flip inside a text is another text to any
reader. What is refused, and what is read, is compared row by row.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data.formats import read
from twofold.data.readers import rows
from twofold.data.validate import check
from twofold.errors import DataError

Writer = Callable[[pa.Table, Path], None]
FLIPS = 20


def table() -> pa.Table:
    made: list[dict[str, Any]] = [
        {
            "prompt": [{"role": "user", "content": f"Wörter {i}" * (i % 3 + 1)}],
            "chosen": f"answer {i}",
            "rejected": f"wrong {i}",
            "score": float(i),
            "meta": {"tags": ["a"] * (i % 4), "who": None if i % 2 else "x"},
        }
        for i in range(120)
    ]
    return pa.Table.from_pylist(made)


def ipc(new: Any, **options: Any) -> Writer:
    def write(content: pa.Table, path: Path) -> None:
        how = pa.ipc.IpcWriteOptions(**options)
        with pa.OSFile(str(path), "wb") as stream, new(stream, content.schema, options=how) as writer:
            writer.write_table(content, max_chunksize=50)

    return write


def parquet(**options: Any) -> Writer:
    return lambda content, path: pq.write_table(content, path, **options)


WRITERS: dict[str, tuple[str, Writer]] = {
    "stream": ("rows.arrow", ipc(pa.ipc.new_stream)),
    "file": ("rows.arrow", ipc(pa.ipc.new_file)),
    "lz4": ("rows.arrow", ipc(pa.ipc.new_stream, compression="lz4")),
    "parquet": ("rows.parquet", parquet()),
    "plain parquet": ("rows.parquet", parquet(compression="none", use_dictionary=False)),
    "summed parquet": ("rows.parquet", parquet(write_page_checksum=True)),
}


def tried(name: str, tmp_path: Path, flips: int) -> Counter[str]:
    file, write = WRITERS[name]
    path, content = tmp_path / file, table()
    write(content, path)
    whole = path.read_bytes()
    wanted = [row for _, row in rows(str(path))]
    assert len(read(str(path)).records) == len(content)
    outcomes, dice = Counter[str](), random.Random(name)
    for _ in range(flips):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        report = check(str(path))
        if not report.ok:
            assert all(f.reason and f.file == str(path) for f in report.errors)
            outcomes["refused"] += 1
            with pytest.raises(DataError, match=file):
                read(str(path))
        else:
            outcomes["same" if [row for _, row in rows(str(path))] == wanted else "another text"] += 1
    return outcomes


@pytest.mark.parametrize("name", WRITERS)
def test_a_flipped_bit_is_refused_or_read(name: str, tmp_path: Path) -> None:
    outcomes = tried(name, tmp_path, FLIPS)
    assert outcomes["refused"] > 0
    if name == "summed parquet":
        assert outcomes["another text"] < FLIPS / 5, "only what lies outside of the summed pages"


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_many_flipped_bits_are_refused_or_read(name: str, tmp_path: Path) -> None:
    assert sum(tried(name, tmp_path, 400).values()) == 400


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_that_was_cut_is_refused(name: str, tmp_path: Path) -> None:
    file, write = WRITERS[name]
    path = tmp_path / file
    write(table(), path)
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        assert not check(str(path)).ok


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_offsets_that_lead_out_of_the_file_are_refused(kind: str, tmp_path: Path) -> None:
    """The kind that ended Python: a text's offsets point beyond the text."""
    path = tmp_path / "rows.arrow"
    good, patched = pa.array(["a", "b"]), pa.array(["abc", "defg"])
    batch = pa.RecordBatch.from_arrays([good, good, patched], names=["prompt", "chosen", "rejected"])
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as stream, new(stream, batch.schema) as writer:
        writer.write_batch(batch)
    offsets, far = (b"".join(n.to_bytes(4, "little") for n in places) for places in ((0, 3, 7), (0, 1 << 30, 7)))
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, far))
    (fault,) = check(str(path)).errors
    assert (fault.check, fault.reason[:22]) == ("unreadable", "not readable as Arrow:")


def test_a_saved_folder_is_checked_before_it_is_mapped(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset(table()).save_to_disk(str(tmp_path / "saved"))
    assert len(read(str(tmp_path / "saved")).records) == 120
    (file,) = (tmp_path / "saved").glob("*.arrow")
    data = bytearray(file.read_bytes())
    at = data.index("Wörter".encode())
    data[at + 1] = 0xFF  # in the middle of a letter
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"{file.name}: not readable as Arrow.*\n  → copy or make"):
        read(str(tmp_path / "saved"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    assert [f.file for f in check(str(rows), against=str(tmp_path / "saved")).errors] == [str(file)]


def test_a_time_that_python_cannot_tell_is_a_text(tmp_path: Path) -> None:
    far = pa.array([1 << 60, 0], pa.timestamp("s"))
    columns = {"prompt": ["a", "b"], "chosen": ["c", "d"], "rejected": ["e", "f"]}
    pq.write_table(pa.table({**columns, "created_at": pa.array([3, 4], pa.timestamp("us"))}), tmp_path / "near.parquet")
    for name, values in (("created_at", far), ("created_at", pa.array([1, 2], pa.timestamp("ns")))):
        path = tmp_path / "far.arrow"
        content = pa.table({**columns, name: values})
        with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, content.schema) as writer:
            writer.write_table(content)
        assert [r.prompt for r in read(str(path)).records] == ["a", "b"]
    assert len(read(str(tmp_path / "near.parquet")).records) == 2
