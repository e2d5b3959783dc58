"""The clean rows of a source, letter by letter, in each kind of file; and the others beside them with their reasons."""

from __future__ import annotations

import datetime
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from twofold.data.fix import KNOWN, Fixed, fix
from twofold.data.issues import Issue
from twofold.data.reading import Reading, RowBounds
from twofold.data.validate import Report, check
from twofold.errors import DataError

Write = Callable[..., str]
GOOD = [{"prompt": "é1", "completion": "a"}, {"prompt": "2", "completion": "b", "comment": ["x", {"y": 1}]}]
BAD = {"prompt": "3", "completion": " "}


def named(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


SHOWN = ['{"prompt": "é1", "completion": "a"}', '{"prompt": "2", "completion": "b", "comment": ["x", {"y": 1}]}']


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clean.jsonl", "\n".join(SHOWN) + "\n"),
        ("clean.NDJSON", "\n".join(SHOWN) + "\n"),
        ("clean.json", "[\n" + ",\n".join(SHOWN) + "\n]\n"),
        ("clean.csv", 'prompt,completion,comment\r\né1,a,\r\n2,b,"[""x"", {""y"": 1}]"\r\n'),
        ("clean.jsonl.gz", "\n".join(SHOWN) + "\n"),
        ("clean.json.gz", "[\n" + ",\n".join(SHOWN) + "\n]\n"),
        ("clean.csv.GZ", 'prompt,completion,comment\r\né1,a,\r\n2,b,"[""x"", {""y"": 1}]"\r\n'),
    ],
)
def test_clean_rows_are_written_as_the_name_says(write: Write, tmp_path: Path, name: str, text: str) -> None:
    path, out = write("rows.jsonl", GOOD[0], BAD, GOOD[1]), tmp_path / "new" / "deep" / name
    fixed = fix(check(path), str(out), check)
    beside = f"{out}.left-out.jsonl"
    assert fixed == Fixed(str(out), beside, 2, 1, {"empty field": 1})
    data = out.read_bytes()
    if name.lower().endswith(".gz"):
        assert data[4:8] == bytes(4), "no time of writing, so that the same rows are the same bytes"
        data = gzip.decompress(data)
    assert data.decode() == text
    assert Path(beside).read_text() == json.dumps(
        {"row": 2, "reasons": ["completion: is only white space"], "data": BAD}
    ) + "\n"  # fmt: skip
    assert named(out.parent) == [name, f"{name}.left-out.jsonl"]
    assert {os.stat(p).st_mode & 0o777 for p in out.parent.iterdir()} == {0o600}


def test_a_csv_keeps_lists_as_json_and_the_columns_of_all_rows(write: Write, tmp_path: Path) -> None:
    path = write("rows.jsonl", GOOD[1], {"prompt": "é", "completion": "c", "comment": ("ü",), "note": 1}, GOOD[0])
    fix(check(path), str(tmp_path / "out.csv"), check)
    assert (tmp_path / "out.csv").read_bytes().decode() == (
        'prompt,completion,comment,note\r\n2,b,"[""x"", {""y"": 1}]",\r\né,c,"[""ü""]",1\r\né1,a,,\r\n'
    )


def test_nothing_left_out_leaves_nothing_beside(write: Write, tmp_path: Path) -> None:
    fixed = fix(check(write("rows.jsonl", *GOOD)), str(tmp_path / "out.jsonl"), check)
    assert (fixed.rows_left, fixed.left_out, fixed.reasons) == (2, 0, {})
    assert named(tmp_path) == ["out.jsonl", "rows.jsonl"]


def test_a_byte_order_mark_and_a_fault_of_the_whole_are_no_reasons_to_leave_a_row_out(
    write: Write, tmp_path: Path
) -> None:
    path = write("rows.jsonl", "\ufeff" + json.dumps(GOOD[0]), GOOD[1])
    report = check(path)
    whole = Issue(path, 0, "", "is odd", "look", "warning", "odd")
    report = Report(path, report.format, 2, 2, (*report.faults, whole))
    assert fix(report, str(tmp_path / "out.jsonl"), check).rows_left == 2
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8").startswith('{"prompt"')


def test_what_is_found_in_the_written_file_is_left_out_by_its_place_in_the_source(write: Write, tmp_path: Path) -> None:
    """The first look at what was written finds fault with its second row, the second look with its first."""
    rows = [{"prompt": str(n), "completion": "a"} for n in range(1, 5)]
    path, looks = write("rows.jsonl", {**rows[0], "completion": ""}, *rows[1:]), list[int]()

    def judge(written: str) -> Report:
        looks.append(len(Path(written).read_text().splitlines()))
        faults = {1: (Issue(written, 2, "x", "is odd", "r", check="odd"), Issue(written, 2, "", "is grey", "r")), 2: (
            Issue(written, 1, "", "is late", "r", check="late"),)}  # fmt: skip
        return Report(written, "", looks[-1], 0, faults.get(len(looks), ()))

    fixed = fix(check(path), str(tmp_path / "out.jsonl"), judge)
    assert looks == [3, 2, 1]
    assert (fixed.rows_left, fixed.left_out, fixed.reasons) == (1, 3, {"empty field": 1, "odd": 1, "": 1, "late": 1})
    assert [json.loads(line)["prompt"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["4"]
    listed = [json.loads(line) for line in (tmp_path / "out.jsonl.left-out.jsonl").read_text().splitlines()]
    assert [(entry["row"], entry["reasons"]) for entry in listed] == [
        (1, ["completion: is empty"]), (2, ["is late"]), (3, ["x: is odd", "is grey"]),
    ]  # fmt: skip


def test_reasons_are_counted_the_most_frequent_first(write: Write, tmp_path: Path) -> None:
    path = write("rows.jsonl", *GOOD, {"prompt": 3, "completion": "a"}, BAD, {**BAD, "prompt": "4"}, "{")
    fixed = fix(check(path), str(tmp_path / "out.jsonl"), check)
    assert list(fixed.reasons.items()) == [("empty field", 2), ("mistyped field", 1), ("bad JSON", 1)]
    last = json.loads((tmp_path / "out.jsonl.left-out.jsonl").read_text().splitlines()[-1])
    assert (last["row"], last["data"]) == (6, None)


def test_rows_are_written_with_what_was_ignored_and_read_as_before(write: Write, tmp_path: Path) -> None:
    """Keys to ignore go along; columns and bounds are those of the reading."""
    rows = [{"q": "1", "completion": "a", "mood": "glad"}, {"q": "2", "completion": "b" * 90, "mood": "sad"}]
    path = write("rows.jsonl", *rows)
    how = Reading(path, {"prompt": "q"}, ignore=("mood",), bounds=RowBounds(bytes=200))
    again = lambda name: check(Reading(name, {"prompt": "q"}, ignore=("mood",)))  # noqa: E731
    assert fix(check(how), str(tmp_path / "out.jsonl"), again, how).rows_left == 2
    assert (tmp_path / "out.jsonl").read_text().splitlines() == [json.dumps(row) for row in rows]


def test_half_a_character_in_a_key_that_nobody_reads_is_written_all_the_same(write: Write, tmp_path: Path) -> None:
    path = write("rows.jsonl", {**GOOD[0], "comment": "\ud800"}, GOOD[1])
    for name, text in (("out.jsonl", '"comment": "\\ud800"}'), ("out.csv", "é1,a,?")):
        fix(check(path), str(tmp_path / name), check)
        first = (tmp_path / name).read_text(encoding="utf-8").splitlines()["csv" in name]
        assert first.endswith(text)
        assert ("\\u00e91" in first) == (name == "out.jsonl")


def test_times_of_a_table_are_written_as_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    day = datetime.date(2024, 2, 29)
    columns = {"prompt": ["1", "2"], "completion": ["a", " "], "date": [day, day]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    fix(check(str(tmp_path / "rows.parquet")), str(tmp_path / "out.jsonl"), check)
    assert json.loads((tmp_path / "out.jsonl").read_text())["date"] == "2024-02-29"
    assert json.loads((tmp_path / "out.jsonl.left-out.jsonl").read_text())["data"]["date"] == "2024-02-29"


@pytest.mark.parametrize("name", ["out.txt", "out.parquet", "out", "out.gz", "jsonl"])
def test_a_kind_that_cannot_be_written_is_refused(write: Write, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as error:
        fix(check(write("rows.jsonl", *GOOD)), str(tmp_path / name), check)
    assert (error.value.what, error.value.where) == ("unknown kind of file to write", str(tmp_path / name))
    assert error.value.remedy == f"end its name in one of {', '.join(f'`{k}`' for k in KNOWN)}"
    assert KNOWN == (".jsonl", ".ndjson", ".json", ".csv", ".jsonl.gz", ".ndjson.gz", ".json.gz", ".csv.gz")


def test_a_file_that_is_there_is_left_alone(write: Write, tmp_path: Path) -> None:
    path, out = write("rows.jsonl", *GOOD), Path(write("out.jsonl", "mine"))
    with pytest.raises(DataError, match=r"out\.jsonl: is there already\n  → name a new file"):
        fix(check(path), str(out), check)
    assert out.read_text() == "mine\n"


def test_a_fault_of_the_whole_file_cannot_be_left_out(write: Write, tmp_path: Path) -> None:
    path = write("rows.jsonl", end="")
    with pytest.raises(DataError, match=r"rows\.jsonl: has no rows\n  → check the file and the split"):
        fix(check(path), str(tmp_path / "out.jsonl"), check)


def test_where_no_row_is_left_nothing_is_written(write: Write, tmp_path: Path) -> None:
    path = write("rows.jsonl", BAD)
    with pytest.raises(DataError, match=r"rows\.jsonl: no row is without faults\n  → see `twofold data check`"):
        fix(check(path), str(tmp_path / "out.jsonl"), check)

    def raising(written: str) -> Report:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fix(check(write("rows.jsonl", *GOOD)), str(tmp_path / "out.jsonl"), raising)
    assert named(tmp_path) == ["rows.jsonl"]
