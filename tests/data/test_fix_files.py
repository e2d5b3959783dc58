"""What is written of a whole file: repairs of its encoding by value, and rows that JSON has no letters for."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from twofold.data import fix as module
from twofold.data import unpacking
from twofold.data.fix import fix
from twofold.data.issues import Issue
from twofold.data.reading import Reading, RowBounds
from twofold.data.repairs import Repaired
from twofold.data.validate import check
from twofold.errors import DataError

ROW = {"prompt": "é", "chosen": "a", "rejected": "b"}


def test_another_encoding_is_a_repair_of_one_file(tmp_path: Path) -> None:
    path, out = tmp_path / "Rows.JSONL.gz", tmp_path / "out.jsonl"
    path.write_bytes(gzip.compress((json.dumps(ROW, ensure_ascii=False) + "\n").encode("utf-16")))
    done = fix(check(str(path)), str(out), check)
    assert done.repairs == {"utf-16 written as UTF-8": Repaired(1, 0, "", "utf-16", "utf-8")}
    assert (done.rows_left, out.read_text(encoding="utf-8")) == (1, json.dumps(ROW, ensure_ascii=False) + "\n")


def test_byte_order_marks_are_counted_with_the_first_row(tmp_path: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    marked = "\ufeff" + json.dumps({**ROW, "prompt": "2"})
    path.write_text(f"{json.dumps(ROW)}\n{marked}\n{marked.replace('2', '3')}\n", encoding="utf-8")
    done = fix(check(str(path)), str(out), check)
    assert done.repairs == {"byte order mark removed": Repaired(2, 2, "", "", "")}
    assert done.rows_left == 3


def test_a_file_in_another_encoding_may_not_unpack_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps({**ROW, "prompt": "x" * 5000}) + "\n").encode("utf-16")))
    monkeypatch.setattr(unpacking, "ALWAYS", 100)
    for growth, refused in ((1, True), (10_000, False)):
        how, out = Reading(str(path), bounds=RowBounds(growth=growth)), str(tmp_path / f"out{growth}.jsonl")
        if refused:
            with pytest.raises(DataError) as error:
                fix(check(how), out, check, how)
            assert error.value.what == "begins as utf-16 and cannot be read as such"
            assert (error.value.where, error.value.remedy) == (str(path), "save it as UTF-8")
        else:
            monkeypatch.setattr(unpacking, "ALWAYS", 10**6)
            assert fix(check(how), out, check, how).rows_left == 1


def test_a_file_that_cannot_be_opened_has_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(b"\xff\xfe no gzip")
    assert module._encoding(path) == ""
    assert module._encoding(tmp_path / "absent.jsonl") == ""
    path.write_bytes(gzip.compress(b"\xff\xfe\0\0"))
    assert module._encoding(path) == "utf-32"
    path.write_bytes(gzip.compress(b"\xff\xfea"))
    assert module._encoding(path) == "utf-16"


def test_a_time_beside_what_cannot_be_printed_is_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, out = tmp_path / "rows.parquet", tmp_path / "out.jsonl"
    columns = {"prompt": ["q\u200b"], "completion": ["a"], "date": [datetime.date(2024, 2, 29)]}
    pq.write_table(pa.table(columns), path)
    fix(check(str(path)), str(out), check)
    assert out.read_text() == '{"prompt": "q\\u200b", "completion": "a", "date": "2024-02-29"}\n'


def test_a_fault_of_the_whole_is_named_by_the_users_file(tmp_path: Path) -> None:
    """With its column where there is one; not by the copy in UTF-8 that was read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, out = tmp_path / "rows.parquet", str(tmp_path / "out.jsonl")
    pq.write_table(pa.table([["a"], ["b"]], names=["prompt", "prompt"]), path)
    with pytest.raises(DataError) as error:
        fix(check(str(path)), out, check)
    assert error.value.where == f"{path}, `prompt`"
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes("\n".encode("utf-16"))
    with pytest.raises(DataError, match="has no rows") as error:
        fix(check(str(empty)), out, check)
    assert error.value.where == str(empty)


def test_rows_are_read_within_the_bounds_of_the_reading(tmp_path: Path) -> None:
    """Errors come instead of rows; a warning before a row is passed over."""
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"a": 1}\n{"a": "' + "x" * 40 + '"}\n', encoding="utf-8")
    first, (number, fault) = module._rows(Reading(str(path), bounds=RowBounds(bytes=20)))
    assert first == (1, {"a": 1})
    assert isinstance(fault, Issue)
    assert (number, fault.check) == (0, "row too long")
    assert [number for number, _ in module._rows(Reading(str(path)))] == [1, 2]


def test_a_file_that_is_gone_before_it_is_copied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, calls = tmp_path / "rows.jsonl", module.opened, list[Path]()
    path.write_bytes((json.dumps(ROW) + "\n").encode("utf-16"))

    def opening(of: Path) -> Any:
        calls.append(of)
        if len(calls) > 1:
            raise FileNotFoundError(of)
        return real(of)

    report = check(str(path))
    monkeypatch.setattr(module, "opened", opening)
    with pytest.raises(DataError) as error:
        fix(report, str(tmp_path / "out.jsonl"), check)
    assert error.value.what == "begins as utf-16 and cannot be read as such"
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]


def test_half_a_letter_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps(ROW) + "\n").encode("utf-16")[:-1])
    with pytest.raises(DataError) as error:
        fix(check(str(path)), str(tmp_path / "out.jsonl"), check)
    assert error.value.what == "begins as utf-16 and cannot be read as such"
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]
