"""Readings that end before their file does, each behind the row that was read last."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twofold.data import readers
from twofold.data.chat import tools_message
from twofold.data.csv import rows as csv_rows
from twofold.data.fix import fix
from twofold.data.issues import Issue
from twofold.data.message_keys import Malformed, tool_calls
from twofold.data.order import Mixture, permutation
from twofold.data.reading import BOUNDS, RowBounds
from twofold.data.unpacking import UnpackedError
from twofold.data.validate import check
from twofold.errors import DataError

AGAIN = "copy or write the file again"


def broken(error: Exception, count: int) -> Callable[..., Iterator[Any]]:
    """Reads so many rows, and fails."""

    def parse(stream: Any, source: str, most: int) -> Iterator[Any]:
        assert most == BOUNDS.bytes
        for number in range(1, count + 1):
            yield number, {"a": number}
        raise error

    return parse


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("error", [EOFError("cut"), OSError("cut")])
def test_a_file_that_cannot_be_read_on_is_at_fault_at_the_next_row(tmp_path: Path, count: int, error: Any) -> None:
    (tmp_path / "f").write_bytes(b"x")
    *read, last = readers._read(broken(error, count), tmp_path / "f", "f", BOUNDS)
    reason = "cannot be read to its end: cut"
    assert read == [(number, {"a": number}) for number in range(1, count + 1)]
    assert last == (count + 1, Issue("f", count + 1, "", reason, AGAIN, check="unreadable"))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_file_that_unpacks_too_far_names_the_next_row(tmp_path: Path, count: int) -> None:
    (tmp_path / "f").write_bytes(b"x")
    *read, (number, issue) = readers._read(broken(UnpackedError(), count), tmp_path / "f", "f", BOUNDS)
    assert isinstance(issue, Issue)
    assert (len(read), number) == (count, 0)
    assert f"; row {count + 1} was not read, nor was what follows" in issue.reason


@pytest.mark.parametrize("count", [0, 1, 2])
def test_rows_of_a_hub_that_fail_are_at_fault_at_the_next_row(count: int) -> None:
    def data() -> Iterator[dict[str, int]]:
        for number in range(1, count + 1):
            yield {"a": number}
        raise KeyError("torn")

    *read, last = readers._dataset(data(), "org/set")
    assert read == [(number, {"a": number}) for number in range(1, count + 1)]
    assert last == (
        count + 1, Issue("org/set", count + 1, "", "cannot be read: 'torn'", AGAIN, check="unreadable"),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_a_disk_that_fails_is_a_fault_of_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"{}\n")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    reason = "cannot be read to its end: [Errno 5] Input/output error"
    assert list(readers.rows(str(path))) == [(1, Issue(str(path), 1, "", reason, AGAIN, check="unreadable"))]
    with pytest.raises(DataError) as error:
        readers.digest(str(path))
    assert (error.value.what, error.value.remedy) == ("cannot be read: Input/output error", "check the rights")
    assert readers.count(str(tmp_path / "rows.jsonl")) is None


def test_bounds_reach_what_parses(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n" + "x" * 30 + "\n")
    (tmp_path / "rows.jsonl").write_text('{"a": "' + "x" * 30 + '"}\n')
    for name, row in (("rows.csv", 2), ("rows.jsonl", 1)):
        ((number, issue),) = readers.rows(str(tmp_path / name), bounds=RowBounds(bytes=20))
        assert isinstance(issue, Issue)
        assert (number, issue.row, issue.check) == (0, 0, "row too long")
        assert issue.reason == f"row {row} is longer than 20 bytes; it was not read, nor was what follows"
        assert issue.remedy == (
            "write one row a line; where a row is meant to be so long, raise data.bounds.bytes (--row-bytes)"
        )


@pytest.mark.parametrize(("lines", "row"), [(1, 2), (2, 3), (3, 4)])
def test_a_row_of_csv_begins_behind_the_line_before(lines: int, row: int) -> None:
    text = "a\n" + "x\n" * (lines - 1)
    *_, (number, issue) = csv_rows(io.BytesIO(text.encode() + b"y,z\n"), "f", 100)
    assert isinstance(issue, Issue)
    assert (number, issue.row, issue.reason) == (row, row, "has 2 cells, the header 1")


@pytest.mark.parametrize("seed", [1, 5, 6])
def test_a_part_of_a_mixture_has_the_seed_behind_those_before(seed: int) -> None:
    rows = Mixture((tuple(range(8)), tuple(range(8, 16))), (1.0, 1.0), seed).at(0, 16)
    slots = permutation(16, seed, 0)
    assert [row for row in rows if row < 8] == [permutation(8, seed + 1, 0)[slot] for slot in slots if slot < 8]
    assert [row - 8 for row in rows if row >= 8] == [permutation(8, seed + 2, 0)[s - 8] for s in slots if s >= 8]


def test_what_is_nested_without_an_end_is_no_json() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Malformed) as error:
        tool_calls([{"name": "f", "arguments": {"a": deep}}], "message 1")
    assert error.value.reason == "message 1: call 1, of `f`: its `arguments` hold a value that JSON does not have"
    with pytest.raises(Malformed, match="is no list of tool definitions"):
        tools_message("[" * 100_000)


def test_a_row_that_is_left_out_leaves_its_reason_and_others_none(tmp_path: Path) -> None:
    """A row of three that is at fault in two fields, and one that a second look finds."""
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3, "completion": " "}\n'
                    '{"prompt": "c", "completion": "d"}\n')  # fmt: skip
    done = fix(check(str(path)), str(out), check)
    assert (done.rows_left, done.left_out, done.reasons) == (2, 1, {"mistyped field": 1, "empty field": 1})
    assert Path(done.beside).read_text() == (
        '{"row": 2, "reasons": ["prompt: is a number, not text or a chat", "completion: is only white space"], '
        '"data": {"prompt": 3, "completion": " "}}\n'
    )
