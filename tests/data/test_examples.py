"""A few faulty rows of each kind, with their texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from twofold.data.examples import kinds
from twofold.data.issues import Issue
from twofold.data.reading import Reading

Write = Callable[..., str]


def issue(file: str, row: int, check: str, severity: str = "error") -> Issue:
    return Issue(file, row, "", "why", "what", severity, check)  # type: ignore[arg-type]  # one of the two


@pytest.fixture
def rows(write: Write) -> str:
    pairs = [{"prompt": f"é{n}", "chosen": "a", "rejected": "b"} for n in range(1, 6)]
    return write("rows.jsonl", *pairs[:4], {**pairs[4], "chosen": 3, "note": "ü"})


def test_errors_come_first_and_then_the_most_frequent(rows: str) -> None:
    faults = [
        issue(rows, 1, "few", "warning"), issue(rows, 2, "many", "warning"), issue(rows, 3, "many", "warning"),
        issue(rows, 4, "rare"), issue(rows, 1, "many", "warning"), issue(rows, 1, "often"), issue(rows, 2, "often"),
    ]  # fmt: skip
    found = kinds(faults, Reading(rows), 2)
    assert [(kind.name, kind.severity, kind.count) for kind in found] == [
        ("often", "error", 2), ("rare", "error", 1), ("many", "warning", 3), ("few", "warning", 1),
    ]  # fmt: skip
    assert [[fault.row for fault, _ in kind.examples] for kind in found] == [[1, 2], [4], [2, 3], [1]]
    (_, texts) = found[1].examples[0]
    assert texts == (("prompt", "é4"), ("chosen", "a"), ("rejected", "b"))


def test_a_row_without_a_record_is_shown_as_it_is(rows: str) -> None:
    (kind,) = kinds([issue(rows, 5, "mistyped field")], Reading(rows), 1)
    shown = '{"prompt": "é5", "chosen": 3, "rejected": "b", "note": "ü"}'
    assert kind.examples[0][1] == (("row", shown),)


def test_what_is_of_no_row_or_of_another_file_has_no_texts(rows: str) -> None:
    faults = [issue(rows, 0, "whole"), issue("other", 2, "elsewhere")]
    assert [kind.examples[0][1] for kind in kinds(faults, Reading(rows), 3)] == [(), ()]
    assert [kind.examples for kind in kinds(faults, Reading("absent.jsonl"), 0)] == [(), ()]
    assert kinds([], Reading("absent.jsonl"), 3) == []


def test_values_that_are_no_json_are_shown_as_text(tmp_path: Path) -> None:
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"prompt": ["q"], "chosen": [1], "date": [datetime.date(2024, 2, 29)]}), path)
    (kind,) = kinds([issue(path, 1, "unknown shape")], Reading(path), 1)
    assert kind.examples[0][1] == (("row", '{"prompt": "q", "chosen": 1, "date": "2024-02-29"}'),)
