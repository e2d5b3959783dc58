"""Repairs of rows by value: what each writes, what it leaves alone, and that the repaired file checks clean."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from twofold.data.fix import Fixed, fix
from twofold.data.reading import Reading
from twofold.data.repairs import REPAIRS, Repaired, _shown, is_percent
from twofold.data.validate import check
from twofold.errors import DataError

Write = Callable[..., str]
Row = dict[str, Any]
GOOD: Row = {"prompt": "a b c", "chosen": "x", "rejected": "y"}
ASKED, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def chat(*turns: Row) -> Row:
    return {"messages": list(turns)}


def fixed(write: Write, tmp_path: Path, *rows: Any, **columns: str) -> tuple[Fixed, list[Row], list[Row]]:
    """What was done, the rows that were written, and those left out; what was written has no faults."""
    path, out = write("rows.jsonl", *rows), tmp_path / "out.jsonl"
    before, how = Path(path).read_bytes(), Reading(path, columns)
    done = fix(check(how), str(out), lambda name: check(Reading(name, columns)), how)
    assert not check(Reading(str(out), columns)).faults
    assert Path(path).read_bytes() == before
    left = Path(done.beside).read_text().splitlines() if done.left_out else []
    return done, list(map(json.loads, out.read_text().splitlines())), list(map(json.loads, left))


CASES: list[tuple[str, Row, Row]] = [
    ("control characters removed", {**GOOD, "chosen": "x\x00\x1b[31mred\x1b[0m\x0bz"}, {**GOOD, "chosen": "xred\nz"}),
    ("control characters removed", {**GOOD, "chosen": "don\x92t"}, {**GOOD, "chosen": "don’t"}),
    (
        "control characters removed",
        {**chat({**ASKED, "content": "q\x00"}, SAID), "weight": 2.0},
        {**chat(ASKED, SAID), "weight": 2.0},
    ),
    ("names of roles", chat({**ASKED, "role": "human"}, {**SAID, "role": "gpt"}), chat(ASKED, SAID)),
    ("names of roles", chat({**ASKED, "role": "User"}, {**SAID, "role": "Bot"}), chat(ASKED, SAID)),
    ("blank turns at the end removed", chat(ASKED, SAID, {**ASKED, "content": " \n"}), chat(ASKED, SAID)),
    (
        "blank turns at the end removed",
        {"prompt": [ASKED, {**SAID, "content": None}], "completion": "b"},
        {"prompt": [ASKED], "completion": "b"},
    ),
    ("repeated system turn removed", chat(SYSTEM, SYSTEM, ASKED, SAID), chat(SYSTEM, ASKED, SAID)),
    (
        "label as text",
        {"prompt": "p", "completion": "c", "label": " True"},
        {"prompt": "p", "completion": "c", "label": True},
    ),
    (
        "label as text",
        {"prompt": "p", "completion": "c", "label": "0"},
        {"prompt": "p", "completion": "c", "label": False},
    ),
    (
        "number as text",
        {**GOOD, "weight": "2", "probability": "0.75", "margin": " -1e-1 "},
        {**GOOD, "weight": 2, "probability": 0.75, "margin": -0.1},
    ),
    ("percent", {**GOOD, "probability": "85 %"}, {**GOOD, "probability": 0.85}),
    ("percent", {**GOOD, "probability": 85}, {**GOOD, "probability": 0.85}),
    (
        "prompt cut from completions",
        {"prompt": "Is it so?", "chosen": "Is it so? Yes.", "rejected": "Is it so?\nNo."},
        {"prompt": "Is it so?", "chosen": " Yes.", "rejected": "\nNo."},
    ),
]


@pytest.mark.parametrize(("kind", "row", "after"), CASES, ids=[f"{i} {kind}" for i, (kind, _, _) in enumerate(CASES)])
def test_each_repair_by_value(write: Write, tmp_path: Path, kind: str, row: Row, after: Row) -> None:
    done, rows, _ = fixed(write, tmp_path, row)
    assert (rows, done.left_out) == ([after], 0)
    assert {name: (made.count, made.row) for name, made in done.repairs.items()} == {kind: (1, 1)}


def test_every_repair_has_a_case() -> None:
    assert {kind for kind, _, _ in CASES} == {*REPAIRS}


READ_WELL: list[Row] = [
    {**GOOD, "chosen": "a b c"},  # nothing would be left of it
    {**GOOD, "chosen": "a b c d"},  # only one side repeats the prompt
    {"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi you"},  # an accident
    {**GOOD, "chosen": "line\r\nline"},
    {**GOOD, "note": None, "weight": None},
    {**GOOD, "prompt": "Is 1 right?", "weight": 2.5, "probability": 1},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    chat(SYSTEM, {**SYSTEM, "content": "t"}, ASKED, SAID),
]


@pytest.mark.parametrize("row", READ_WELL, ids=str)
def test_what_is_read_well_stays_as_it_is(write: Write, tmp_path: Path, row: Row) -> None:
    done, rows, _ = fixed(write, tmp_path, row)
    assert (rows, done.repairs, done.left_out) == ([row], {}, 0)


BEYOND: list[tuple[Row, str]] = [
    ({**GOOD, "chosen": "caf\ufffd"}, "control character"),
    ({**GOOD, "chosen": "x\x85y"}, "control character"),
    (chat({**ASKED, "role": "narrator"}, SAID), "unknown role"),
    (chat(ASKED, {**SAID, "content": ""}), "empty field"),
    ({"prompt": "p", "completion": "c", "label": "good"}, "mistyped field"),
    ({**GOOD, "probability": "likely"}, "mistyped field"),
    ({**GOOD, "probability": 185}, "mistyped field"),
]


@pytest.mark.parametrize(("row", "reason"), BEYOND, ids=str)
def test_what_cannot_be_repaired_is_listed_with_its_reason(write: Write, tmp_path: Path, row: Row, reason: str) -> None:
    good = {**row, "chosen": "z", "probability": 0.5} if "chosen" in row else {**row, "label": True}
    good = chat({**ASKED, "content": "other"}, SAID) if "messages" in row else good
    done, rows, left = fixed(write, tmp_path, good, row)
    assert (rows, done.left_out, done.repairs) == ([good], 1, {})
    assert (done.reasons.get(reason), left[0]["row"], left[0]["data"]) == (1, 2, row)


def test_percentages_are_refused_where_they_may_be_probabilities(write: Write, tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": f"p {n}", "probability": value} for n, value in enumerate((85, 0, 100))]
    done, written, _ = fixed(write, tmp_path, *rows)
    assert [row["probability"] for row in written] == [0.85, 0, 1.0]
    (tmp_path / "out.jsonl").unlink()
    done, written, _ = fixed(write, tmp_path, *rows, {**GOOD, "probability": 0.7})
    assert ([row["probability"] for row in written], done.left_out, done.repairs) == ([0, 0.7], 2, {})
    assert [is_percent(v) for v in ([85, 1], [85, 0], [0, 1], [85, 101], ["85", None], [True, 2], [])] == [
        False, True, False, False, True, True, False,
    ]  # fmt: skip


def test_columns_of_other_names_are_repaired_too(write: Write, tmp_path: Path) -> None:
    row = {"q": "Is it so?", "good": "Is it so? Yes", "bad": "Is it so? No", "p": "0.5"}
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad", "probability": "p"}
    done, rows, _ = fixed(write, tmp_path, row, **columns)
    assert rows == [{"q": "Is it so?", "good": " Yes", "bad": " No", "p": 0.5}]
    assert [*done.repairs] == ["number as text", "prompt cut from completions"]


def test_repaired_rows_are_judged_beside_the_others(write: Write, tmp_path: Path) -> None:
    """A repeated row stays out, and so do two that contradict each other, however they can be repaired."""
    noisy, turned = {**GOOD, "chosen": "x\x00"}, {**GOOD, "prompt": "d", "chosen": "k", "rejected": "l\x00"}
    again = {**turned, "chosen": "l\x00", "rejected": "k"}
    done, rows, left = fixed(write, tmp_path, GOOD, noisy, turned, again, {**noisy, "prompt": "e"})
    assert rows == [GOOD, {**GOOD, "prompt": "e"}]
    assert [entry["row"] for entry in left] == [2, 3, 4]
    assert "repeats row 1" in left[0]["reasons"]
    assert done.repairs["control characters removed"] == Repaired(1, 5, "chosen", '"x\\u0000"', '"x"')


def test_a_repair_that_would_cost_a_good_row_is_not_made(write: Write, tmp_path: Path) -> None:
    """Without the prompt, both sides of the second row are the same words."""
    row = {"prompt": "Is it so?", "chosen": "Is it so? Yes", "rejected": "Is it so?  Yes"}
    done, rows, _ = fixed(write, tmp_path, GOOD, row)
    assert (rows, done.left_out, done.repairs) == ([GOOD, row], 0, {})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_other_encodings_are_written_as_utf_8(tmp_path: Path, encoding: str, name: str) -> None:
    row = {**GOOD, "chosen": "é€"}
    text = (
        json.dumps(row, ensure_ascii=False) + "\r\n"
        if name != "rows.csv"
        else "prompt,chosen,rejected\r\na b c,é€,y\r\n"
    )
    path, out = tmp_path / name, tmp_path / "out.jsonl"
    path.write_bytes((b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding))
    done = fix(check(str(path)), str(out), check)
    assert out.read_bytes() == (json.dumps(row, ensure_ascii=False) + "\n").encode()
    kinds = {"utf-8-sig": [] if name == "rows.csv" else ["byte order mark removed"]}
    assert [*done.repairs] == kinds.get(encoding, [f"{encoding.removesuffix('-be')} written as UTF-8"])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "out.jsonl"])


def test_a_file_that_is_not_what_it_begins_as_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff\xfe" + b"\x00\xd8" * 3)
    with pytest.raises(DataError, match="begins as utf-16 and cannot be read as such"):
        fix(check(str(path)), str(tmp_path / "out.jsonl"), check)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_repair_is_shown_even_of_values_that_json_does_not_have() -> None:
    assert _shown(date(2026, 11, 29), "x") == ('"2026-11-29"', '"x"')
