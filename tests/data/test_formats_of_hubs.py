"""Rows that come from no file: their digest, and texts that are longer than one may be."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import pytest

from twofold.data import formats
from twofold.data.formats import ParsedRow, Stream
from twofold.data.issues import Issue
from twofold.data.reading import Reading, RowBounds
from twofold.records import Pair, Source

NAME = "org/set-of-twofold"
PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


def streamed(monkeypatch: pytest.MonkeyPatch, *rows: Any, **how: Any) -> tuple[Stream, list[ParsedRow]]:
    monkeypatch.setattr(formats, "rows", lambda *_: enumerate(rows, 1))
    stream = Stream(Reading(NAME, **how))
    return stream, list(stream)


def test_the_digest_is_of_the_rows_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in one order, values that JSON has no name for as text, a line each; faults are no rows."""
    day = datetime.date(2024, 2, 29)
    fault = Issue(NAME, 2, "", "is odd", "look")
    stream, made = streamed(monkeypatch, {**PAIR, "date": day}, fault, {"rejected": "é", "prompt": "q", "chosen": "c"})
    lines = (
        '{"chosen": "a", "date": "2024-02-29", "prompt": "p", "rejected": "b"}\n'
        '{"chosen": "c", "prompt": "q", "rejected": "\\u00e9"}\n'
    )
    assert stream.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert [row.record for row in made] == [
        Pair("p", "a", "b", Source(NAME, 1)), None, Pair("q", "c", "é", Source(NAME, 3)),
    ]  # fmt: skip
    assert (made[1].row, list(made[1].faults)) == (None, [fault])


@pytest.mark.parametrize(("letters", "faulty"), [(7, False), (8, False), (9, True), (1200, True)])
def test_a_text_may_have_as_many_letters_as_a_row_bytes(
    monkeypatch: pytest.MonkeyPatch, letters: int, faulty: bool
) -> None:
    _, (made,) = streamed(monkeypatch, {**PAIR, "chosen": "x" * letters}, bounds=RowBounds(bytes=8))
    assert (made.record is None) == faulty
    assert [(f.row, f.field, f.reason, f.check) for f in made.faults] == (
        [(1, "chosen", f"has {letters:,} characters, at most 8 are read", "row too long")] if faulty else []
    )
    if faulty:
        remedy = "remove the row; where it is meant so, raise data.bounds.bytes (--row-bytes)"
        assert made.faults[0].remedy == remedy


def test_members_of_an_object_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [{"role": "user", "content": "a"}] * 3
    row = {"input": {"messages": turns, "note": "x" * 9}, "preferred_output": [], "non_preferred_output": []}
    _, (made,) = streamed(monkeypatch, row, bounds=RowBounds(bytes=8, items=2))
    assert [(f.field, f.reason) for f in made.faults] == [
        ("input.messages", "has 3 items, at most 2 are read"),
        ("input.note", "has 9 characters, at most 8 are read"),
    ]
