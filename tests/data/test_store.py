"""A store of rows: where its batches begin, what is read of it, and what is as good as none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from twofold.data.store import AT_ONCE, Batches, Stored, opened, write
from twofold.disk import read_signed, sha256, write_signed

SCHEMA = pa.schema([("n", pa.int64())])
ROWS = 2 * AT_ONCE + 5


class Numbers(Stored[int]):
    def made(self, batch: pa.RecordBatch, place: int) -> int:
        return batch["n"][place].as_py()


def columns(numbers: list[int]) -> list[pa.Array]:
    return [pa.array(numbers)]


def stored(folder: Path, number: int = ROWS) -> Batches:
    assert write(folder, SCHEMA, iter(range(number)), columns, lambda: ("key", {"rows": number})) == "key"
    found = opened(folder, "key")
    assert found is not None
    assert found[1] == {"rows": number}
    return found[0]


def test_rows_are_in_batches_of_1024(tmp_path: Path) -> None:
    batches = stored(tmp_path)
    assert AT_ONCE == 1024
    assert (len(batches), [batch.num_rows for batch in batches]) == (ROWS, [1024, 1024, 5])
    for row, place in ((0, 0), (1023, 1023), (1024, 0), (2047, 1023), (2048, 0), (2052, 4)):
        batch, at = batches.find(row)
        assert (at, batch["n"][at].as_py()) == (place, row)
    numbers = Numbers("key", batches, {})
    assert (len(numbers), list(numbers)) == (ROWS, [*range(ROWS)])
    assert [numbers[row] for row in (0, 1024, -1)] == [0, 1024, ROWS - 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.arrow", "key.json"]


def test_rows_of_one_batch_take_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, read = stored(tmp_path), list[int]()
    file = batches._file

    class Counting:
        def get_batch(self, number: int) -> pa.RecordBatch:
            read.append(number)
            return file.get_batch(number)

    monkeypatch.setattr(batches, "_file", Counting())
    for row in (5, 6, 1023, 1024, 1030, 2052, 0):
        batches.find(row)
    assert read == [0, 1, 2, 0]


@pytest.mark.parametrize("damage", ["no sheet", "no file", "changed", "cut", "another key"])
def test_a_damaged_store_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    stored(tmp_path, 3)
    arrow, sheet = tmp_path / "key.arrow", tmp_path / "key.json"
    whole = arrow.read_bytes()
    if damage in ("no sheet", "no file"):
        {"no sheet": sheet, "no file": arrow}[damage].unlink()
    elif damage == "another key":
        for path in (arrow, sheet):
            path.rename(path.with_stem("other"))
    else:
        arrow.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    assert opened(tmp_path, "other" if damage == "another key" else "key") is None


def test_a_sheet_of_what_is_no_table_is_as_good_as_none(tmp_path: Path) -> None:
    """Signed, and with the right digest."""
    (tmp_path / "key.arrow").write_bytes(b"no table")
    sheet = {"sha256": sha256(tmp_path / "key.arrow"), "counts": [1], "facts": {}}
    write_signed(tmp_path / "key.json", sheet, about="key")
    assert read_signed(tmp_path / "key.json", about="key") == sheet
    assert opened(tmp_path, "key") is None


def test_rows_that_fail_leave_nothing_behind(tmp_path: Path) -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise ValueError("no row")

    folder = tmp_path / "new" / "folder"
    with pytest.raises(ValueError, match="no row"):
        write(folder, SCHEMA, rows(), columns, lambda: ("key", {}))
    assert list(folder.iterdir()) == []
    assert opened(folder, "key") is None


def test_a_sheet_has_the_sum_of_its_file(tmp_path: Path) -> None:
    import json

    stored(tmp_path, 0)
    sheet = json.loads((tmp_path / "key.json").read_text())
    told = {name: value for name, value in sheet.items() if name in ("counts", "facts")}
    assert told == {"counts": [], "facts": {"rows": 0}}
    assert sheet["sha256"] == sha256(tmp_path / "key.arrow")
