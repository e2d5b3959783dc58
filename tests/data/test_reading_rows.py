"""A source as a stream of rows: its kinds of files, limits, bounds, names of what is near, and the end of patience."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data import formats
from twofold.data.formats import ParsedRow, Stream, Table, read, reading_of, scan, texts
from twofold.data.issues import Issue, IssueError, nearest, quoted, shortened
from twofold.data.readers import count, digest, files, is_file, is_pattern, refuse_missing, rows
from twofold.data.reading import Reading, RowBounds
from twofold.errors import DataError
from twofold.records import Message, Pair, Request, Source

Write = Callable[..., str]
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


def told(faults: Any) -> list[tuple[int, str, str, str]]:
    assert all(f.remedy for f in faults)
    return [(f.row, f.field, f.reason, f.check) for f in faults]


def test_a_source_with_how_it_is_read() -> None:
    assert reading_of("a") == Reading("a", {}, "train", None)
    assert reading_of("a", {"prompt": "q"}, "test", 3) == Reading("a", {"prompt": "q"}, "test", 3)
    how = Reading("b", limit=1)
    assert reading_of(how, {"prompt": "q"}, "test", 3) is how


def test_a_limit_counts_rows_and_what_stands_in_their_place(write: Write) -> None:
    """A mark before a row is none; no row at all may be wanted."""
    path = write("rows.jsonl", "\ufeff" + json.dumps(PAIR), "{", {**PAIR, "prompt": "b"}, {**PAIR, "prompt": "c"})
    found = scan(path, limit=3)
    assert (found.rows, [r.source.row for r in found.table.records]) == (3, [1, 3])
    assert [f.check for f in found.faults] == ["BOM", "bad JSON"]
    assert scan(path, limit=0).rows == 0
    with pytest.raises(DataError) as error:
        read(path, limit=0)
    assert (error.value.what, error.value.where, error.value.remedy) == (
        "has no rows", path, "check the file and the split",
    )  # fmt: skip


def test_rows_that_were_parsed() -> None:
    bom = Issue("f", 1, "", "r", "r", "warning", "BOM")
    whole = Issue("f", 0, "", "r", "r")
    bad = Issue("f", 1, "", "r", "r")
    made = [ParsedRow(1, {}, Request("a", Source("f", 1))), *(ParsedRow(1, None, None, [f]) for f in (bom, whole, bad))]
    assert [m.is_row for m in made] == [True, False, False, True]
    assert made[0].faults == ()


def test_a_faulty_source_is_not_read_to_its_end(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    assert formats.MOST_ERRORS == 200_000
    monkeypatch.setattr(formats, "MOST_ERRORS", 2)
    found = scan(write("rows.jsonl", PAIR, "{", "{", {**PAIR, "prompt": "b"}, "{", PAIR))
    assert told(found.faults)[-1] == (
        0, "", "has more than 2 faulty rows; row 5 and what follows was not read", "too many errors",
    )  # fmt: skip
    assert (found.rows, len(found.table.records)) == (4, 2)
    assert found.faults[-1].remedy == "fix the first ones: all may have one cause"


def test_a_digest_is_that_of_the_file_or_of_its_rows(write: Write, tmp_path: Path) -> None:
    path = write("rows.jsonl", PAIR)
    whole = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (read(path).sha256, digest(path), Stream(path).sha256) == (whole, whole, whole)
    assert Stream(path, sha256="known").sha256 == "known"
    assert digest(str(tmp_path)) is None
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"rejected": "c", "prompt": "é", "chosen": "b"}]).save_to_disk(tmp_path / "saved")
    rows_as_json = json.dumps({**PAIR, "prompt": "é"}, sort_keys=True).encode() + b"\n"
    assert read(str(tmp_path / "saved")).sha256 == hashlib.sha256(rows_as_json).hexdigest()


def test_a_table_names_its_shape_and_source(write: Write) -> None:
    path = write("rows.jsonl", PAIR)
    table = read(path)
    assert table == Table([Pair("a", "b", "c", Source(path, 1))], "prompt + chosen + rejected", path, table.sha256)
    assert scan(write("odd.jsonl", "[]")).table.format == "unknown"


def test_columns_are_renamed_and_those_that_are_not_there_are_named(write: Write) -> None:
    path = write("rows.jsonl", {"q": "a", "prompt": "x", "chosen": "b", "rejected": "c"})
    assert read(path, columns={"prompt": "q"}).records == [Pair("a", "b", "c", Source(path, 1))]
    for column, remedy in (("promt", "did you mean `prompt`?"),
                           ("zzz", "the row has `q`, `prompt`, `chosen`, `rejected`")):  # fmt: skip
        (fault,) = scan(path, columns={"prompt": column}).faults
        assert told([fault]) == [(1, "prompt", f"the column `{column}` is missing", "missing field")]
        assert fault.remedy == remedy
    with pytest.raises(DataError) as error:
        Stream(path, columns={"zzz": "q"})
    assert (error.value.what, error.value.where) == ("`columns` names an unknown field `zzz`", path)
    assert error.value.remedy.startswith("fields are `question`, `ground_truth`, ")


@pytest.mark.parametrize(
    ("row", "bounds", "faults"),
    [
        ({**PAIR, "chosen": "é" * 5}, {"bytes": 200}, []),
        ({"prompt": "a", "completions": ["x", "y", "z"]}, {"items": 3}, []),
        ({"prompt": "a", "completions": ["x", "y", "z"]}, {"items": 2},
         [(1, "completions", "has 3 items, at most 2 are read", "row too long")]),
    ],
)  # fmt: skip
def test_bounds_are_met_exactly(write: Write, row: Any, bounds: dict[str, int], faults: list[Any]) -> None:
    assert told(scan(Reading(write("rows.jsonl", row), bounds=RowBounds(**bounds))).faults) == faults


def test_halves_of_characters_are_named_by_their_field(write: Write) -> None:
    path = write("rows.jsonl", PAIR, {**PAIR, "chosen": "x\ud83d", "rejected": "\udc00"})
    found = told(scan(path).faults)
    assert [(row, field, check) for row, field, _, check in found] == [
        (2, "chosen", "bad UTF-8"), (2, "rejected", "bad UTF-8"),
    ]  # fmt: skip
    assert "U+D83D" in found[0][2]


def test_every_text_of_a_record_has_a_name() -> None:
    chat = (Message("system", "s", '{"name": "n"}'), Message("user", "u"))
    assert list(texts(Pair(chat, "b", "c", Source("f", 1), gold="g"))) == [
        ("prompt", "s"), ("prompt", '{"name": "n"}'), ("prompt", "u"),
        ("chosen", "b"), ("rejected", "c"), ("gold", "g"),
    ]  # fmt: skip
    assert list(texts(Request("p", Source("f", 1)))) == [("prompt", "p")]


def test_how_many_rows_a_file_may_have(write: Write, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "rows.PARQUET")
    (tmp_path / "bad.parquet").write_bytes(b"x")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    assert count(write("rows.jsonl", "{}", "", "{}")) == 3
    assert count(write("rows.ndjson", "{}", end="")) == 0
    assert count(str(tmp_path / "rows.PARQUET")) == 3
    for name in ("bad.parquet", "rows.jsonl.gz", "none.jsonl"):
        assert count(str(tmp_path / name)) is None
    assert count(write("rows.json", "[]")) is None
    (tmp_path / "folder.jsonl").mkdir()
    assert count(str(tmp_path / "folder.jsonl")) is None


def test_patterns_name_files(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write("a.jsonl", PAIR), write("b.jsonl", PAIR)
    (tmp_path / "c.jsonl").mkdir()
    (tmp_path / "deep").mkdir()
    deep = write("deep/d.jsonl", PAIR)
    assert files(str(tmp_path / "*.jsonl")) == [a, b]
    assert files(str(tmp_path / "**" / "?.jsonl")) == [a, b, deep]
    assert files(a) == [a]
    assert [is_pattern(s) for s in ("a*", "a?", "a[b]", "a.jsonl", a)] == [True, True, True, False, False]
    assert not is_pattern(write("odd[1].jsonl", PAIR))
    assert (is_file(a), is_file(str(tmp_path)), is_file("none")) == (True, False, False)
    with pytest.raises(DataError) as error:
        files(str(tmp_path / "*.csv"))
    assert error.value.remedy == f"`{tmp_path}` holds `a.jsonl`, `b.jsonl`, `c.jsonl`, `deep`, `odd[1].jsonl`"
    with pytest.raises(DataError) as error:
        files(str(tmp_path / "none" / "*.csv"))
    assert error.value.remedy == "check the path"


@pytest.mark.parametrize(
    ("name", "missing"),
    [("a/b", False), ("a", False), ("a/b:c", False), ("a/b/c", True), ("a b", True), ("rows.jsonl", True),
     ("/x/y", True), ("rows.csv.gz", True), ("a.parquet", True)],
)  # fmt: skip
def test_what_can_be_no_hub_name_must_be_there(name: str, missing: bool) -> None:
    if not missing:
        refuse_missing(name)
        return
    with pytest.raises(DataError) as error:
        refuse_missing(name)
    assert (error.value.what, error.value.where, error.value.remedy) == ("no such file", name, "check the path")


def test_kinds_of_files_are_told_by_their_names(write: Write, tmp_path: Path) -> None:
    for name in ("rows.txt", "rows.jsonl.zip", "noending"):
        with pytest.raises(DataError) as error:
            rows(write(name, PAIR))
        ending = {"rows.txt": ".txt", "rows.jsonl.zip": ".zip", "noending": "noending"}[name]
        assert error.value.what == f"unknown kind of file `{ending}`"
        assert error.value.remedy == (
            "provide `.jsonl`, `.json`, `.ndjson` or `.csv`, each also with `.gz` or `.zst`, or `.parquet`, `.arrow`"
        )
    for name in ("ROWS.JSONL", "rows.JSON", "rows.ndjson"):
        assert list(rows(write(name, PAIR))) == [(1, PAIR)]
        assert list(rows(write(name, "\ufeff \n[" + json.dumps(PAIR) + "]")))[-1] == (1, PAIR)
    assert list(rows(write("rows.json", {**PAIR, "x": {"y": None, "z": 1}}), ignore=("chosen",))) == [
        (1, {"prompt": "a", "rejected": "c", "x": {"z": 1}})
    ]
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"[" + json.dumps(PAIR).encode() * 99)[:-9])
    assert [row.check for _, row in rows(str(tmp_path / "cut.json.gz")) if isinstance(row, Issue)]
    (tmp_path / "cut.jsonl.gz").write_bytes(b"no gzip")
    ((number, fault),) = rows(str(tmp_path / "cut.jsonl.gz"))
    assert isinstance(fault, Issue)
    assert (number, fault.row, fault.check, fault.remedy) == (1, 1, "unreadable", "copy or write the file again")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(write: Write) -> None:
    path = write("rows.jsonl", PAIR)
    os.chmod(path, 0)
    with pytest.raises(DataError, match=r"cannot be read: .*\n  → check the rights"):
        digest(path)


def test_names_that_are_near() -> None:
    assert [nearest(n, ["chosen", "Rejected"]) for n in ("chosn", "REJECTED", "x", "rejectd")] == [
        "chosen", "Rejected", None, "Rejected",
    ]  # fmt: skip
    assert nearest("x" * 60, ["x" * 60]) == "x" * 60
    assert nearest("x" * 61, ["x" * 61, "x" * 60]) is None
    assert nearest("chosn", ["y" * 61, "chosen"]) == "chosen"
    assert nearest("chosn", [*(f"{n}" for n in range(499)), "chosen"]) == "chosen"
    assert nearest("chosn", [*(f"{n}" for n in range(500)), "chosen"]) is None


def test_names_are_listed_in_brief() -> None:
    assert quoted(map(str, range(12))) == ", ".join(f"`{n}`" for n in range(12))
    assert quoted(map(str, range(13))).endswith("`11` and 1 more")
    assert (shortened("x" * 60), shortened("x" * 61)) == ("x" * 60, "x" * 60 + "…")
    fault = Issue("f", 3, "x", "is odd", "mend it", check="odd")
    assert (fault.where, Issue("f", 0, "", "r", "r").where, fault.severity) == ("f:3, `x`", "f", "error")
    error = IssueError(fault)
    assert (error.fault, str(error)) == (fault, "f:3, `x`: is odd\n  → mend it")
