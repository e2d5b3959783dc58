"""Rows that repeat or contradict others, and prompts that two sources have, with more rows than memory holds."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twofold.data import digests
from twofold.data.digests import Sorted, digest128
from twofold.data.formats import Stream
from twofold.data.repeats import Repeats, _overlaps
from twofold.data.validate import check
from twofold.records import Labelled, Message, Pair, Ranking, Record, Source

Write = Callable[..., str]


def pairs(count: int) -> list[dict[str, Any]]:
    """Rows of few prompts and answers, so that most repeat or contradict others; some have a weight."""
    draw = random.Random(0)
    rows = [{"prompt": draw.choice("12345"), "chosen": draw.choice("abcd")} for _ in range(count)]
    for row in rows:
        row |= {"rejected": draw.choice([a for a in "abcd" if a != row["chosen"]])}
        row |= {"weight": 2.0} if draw.random() < 0.2 else {}
    return rows


def stance(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["prompt"], row["chosen"], row["rejected"]


def expected(rows: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """What the check must find, by comparing every row with all others."""
    found = list[tuple[int, str, str]]()
    for number, row in enumerate(rows, 1):
        first = rows.index(row) + 1
        if first < number:
            found.append((number, "duplicate", f"repeats row {first}"))
        turned = (row["prompt"], row["rejected"], row["chosen"])
        others = [
            n for n, other in enumerate(rows, 1) if (other["prompt"], other["chosen"], other["rejected"]) == turned
        ]
        found += [(number, "contradiction", f"prefers what row {others[0]} rejects")] if others else []
    return found


@pytest.mark.parametrize("at_once", [1 << 18, 7, 1])
def test_repeats_are_found_beyond_what_memory_holds(
    write: Write, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(digests, "AT_ONCE", at_once)
    rows = pairs(120)
    path = write("rows.jsonl", *rows)
    report = check(path)
    assert [(f.row, f.check, f.reason) for f in report.faults] == expected(rows)
    contradictory = {row for row, kind, _ in expected(rows) if kind == "contradiction"}
    assert (report.rows, report.records) == (120, 120 - len(contradictory))


@pytest.mark.parametrize("at_once", [1 << 18, 3])
def test_prompts_of_both_sources_are_found_beyond_what_memory_holds(
    write: Write, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(digests, "AT_ONCE", at_once)
    theirs = write("theirs.jsonl", *({"prompt": str(n % 5), "chosen": f"a{n}", "rejected": "b"} for n in range(10)))
    ours = write("ours.jsonl", *({"prompt": f" {n} ", "chosen": f"c{n}", "rejected": "d"} for n in range(3, 9)))
    found = [(f.row, f.field, f.check, f.reason) for f in check(ours, against=theirs).faults]
    assert found == [(n - 2, "prompt", "overlap", f"is also at {theirs}:{n + 1}") for n in (3, 4)]


def test_entries_come_in_parts_of_what_memory_holds() -> None:
    made, every = Sorted(50), list[tuple[int, ...]]()
    for row in range(1, 1001):
        digest = digest128(f"text {row % 400}")
        made.add(digest, row % 3, row)
        every.append((*np.frombuffer(digest, np.uint64).tolist(), row % 3, row))
    parts = [entries for (entries,) in made]
    assert [tuple(entry) for part in parts for entry in part.tolist()] == sorted(every)
    assert max(map(len, parts)) <= 50
    assert len(parts) > 20
    assert [entries.tolist() for (entries,) in Sorted()] == [[]]


def test_the_entries_of_one_digest_come_in_arrays_of_what_memory_holds() -> None:
    made, same = Sorted(50), digest128("same")
    for row in range(1, 1001):
        made.add(same, row % 3, row)
        made.add(digest128(f"text {row}"), 0, row)
    arrays = [entries for part in made for entries in part]
    assert (max(map(len, arrays)), sum(map(len, arrays))) == (50, 2000)
    (large,) = [part for part in made if len(part) > 1]
    assert [row for entries in large for row in sorted(entries[:, 3].tolist())] == list(range(1, 1001))


def test_rows_are_equal_in_all_they_hold() -> None:
    place = Source("f", 1)
    chat = (Message("user", "q"),)
    records: list[Record] = [
        Pair("q", "a", "b", place), Pair(chat, "a", "b", place), Pair("q", "a", "b", place, gold="c"),
        Pair("q", "a", "b", place, gold="d"), Pair("q", "a", "b", place, weight=1.0), Pair("qa", "", "b", place),
        Pair("q", "a", "b", place, margin=1.0), Pair("q", "a", "b", place, probability=1.0),
        Ranking("q", ("a", "b"), place), Ranking("q", ("a", "b"), place, (2.0, 1.0)), Ranking("q", ("ab",), place),
        Labelled("q", "a", True, place), Labelled("q", "a", True, place, 0.9),
    ]  # fmt: skip
    seen = Repeats()
    for record in (*records, *records):
        seen.see(record)
    found = [fault.check for fault in seen.faults("f")]
    assert found == ["duplicate"] * len(records)


def test_a_contradiction_holds_whatever_else_the_rows_have(write: Write) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "gold": "c"},
        {"prompt": "q", "chosen": "b", "rejected": "a", "gold": "d"},
        {"prompt": "q", "chosen": "b", "rejected": "a", "probability": 0.6},
    ]
    assert [(f.row, f.check) for f in check(write("rows.jsonl", *rows)).faults] == [
        (1, "contradiction"),
        (2, "contradiction"),
    ]


def test_a_disk_that_is_full_is_a_fault_of_the_temporary_folder(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(digests, "AT_ONCE", 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    (fault,) = check(write("rows.jsonl", *pairs(3))).faults
    assert (fault.file, fault.check) == (str(tmp_path / "absent"), "unreadable")
    assert "TMPDIR" in fault.remedy


def test_rows_with_other_keys_than_the_rows_before_are_read_as_such(write: Write) -> None:
    """What is known of a row from its keys is not taken for a row with other keys, or other values."""
    plain = {"prompt": "q", "chosen": "a", "rejected": "b"}
    rows = [plain, plain | {"mask": None}, plain | {"mask": [1]}, plain | {"mask": ""}, plain | {"id": 7}]
    rows += [{"rejected": "b", "chosen": "a", "prompt": "z"}, {"prompt": "q", "chosen": "a"}]
    path = write("rows.jsonl", *rows, plain | {"x" * 2000: 1})
    found = [(f.row, f.check) for made in Stream(path) for f in made.faults]
    assert found == [(3, "unread key"), (7, "missing field"), (8, "unread key")]


def test_a_line_with_a_second_value_or_mark_is_bad_json(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"})
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f"{line} \r\n  {line}\n\n{line} {line}\n".encode() + b"\xef\xbb\xbf\xef\xbb\xbf{}\n")
    found = [(f.row, f.check, f.reason) for f in check(str(path)).faults if f.check != "duplicate"]
    assert found == [
        (4, "bad JSON", f"bad JSON at column {len(line) + 2}: Extra data"),
        (5, "BOM", "starts with a byte order mark"),
        (5, "bad JSON", "bad JSON at column 1: Unexpected UTF-8 BOM (decode using utf-8-sig)"),
    ]


def test_a_prompt_in_two_arrays_is_compared_with_the_first_row_of_the_other_source() -> None:
    """Columns: two halves of a digest, the source (0: the other one) and the row."""
    arrays = [np.array(entries, np.uint64) for entries in ([[5, 5, 0, 7], [5, 5, 0, 9]], [[5, 5, 1, 3]])]
    assert list(_overlaps(arrays)) == [(7, 3)]
    assert list(_overlaps([np.concatenate(arrays)])) == [(7, 3)]
    assert list(_overlaps([arrays[1], arrays[1]])) == []
