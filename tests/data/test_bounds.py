"""What one row may cost: its length, its lists, its keys, its template's loops. Beyond it a message, and a setting."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data import chat
from twofold.data.formats import read, scan
from twofold.data.issues import quoted
from twofold.data.json_rows import array
from twofold.data.reading import Reading, RowBounds
from twofold.data.time_limit import within
from twofold.data.tokenize import Encoder
from twofold.data.validate import check
from twofold.errors import DataError, ModelError
from twofold.records import Message

Write = Callable[..., str]
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


def long(name: str, size: int) -> bytes:
    """Two rows of which the second has so many bytes."""
    rows = [PAIR, {**PAIR, "chosen": "x" * size}]
    if name.startswith("rows.csv"):
        return ("prompt,chosen,rejected\n" + "".join(",".join(r.values()) + "\n" for r in rows)).encode()
    if name.startswith("rows.json."):
        return json.dumps(rows).encode()
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


@pytest.mark.parametrize(
    "name", [f"rows.{kind}{packed}" for kind in ("jsonl", "csv", "json") for packed in ("", ".gz")]
)
def test_a_row_that_is_too_long_ends_the_reading(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, long(name if name != "rows.json" else "rows.json.", 3_000_000)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (fault,) = check(Reading(str(path), bounds=RowBounds(bytes=2_000_000))).errors
    assert (fault.check, fault.row) == ("row too long", 0)
    assert fault.reason.startswith(f"row {3 if 'csv' in name else 2} is longer than 2,000,000 bytes")
    assert "data.bounds.bytes" in fault.remedy
    assert len(read(Reading(str(path), bounds=RowBounds(bytes=4_000_000))).records) == 2


def test_a_bomb_costs_no_more_than_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wb", 1) as stream:
        stream.write(b'{"prompt": "')
        for _ in range(200):
            stream.write(b"x" * (1 << 20))
    began = time.process_time()
    (fault,) = check(str(path)).errors
    assert fault.check == "row too long"
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": "a", "completions": ["x"] * 9}, "completions"),
        ({"messages": [{"role": "user", "content": "a"}] * 8 + [{"role": "assistant", "content": "b"}]}, "messages"),
        ({"input": {"messages": [{"role": "user", "content": "a"}] * 9}, "preferred_output": [],
          "non_preferred_output": []}, "input.messages"),
    ],
)  # fmt: skip
def test_a_list_that_is_too_long_is_refused(write: Write, row: Any, field: str) -> None:
    path = write("rows.jsonl", row)
    faults = check(Reading(path, bounds=RowBounds(items=8))).errors
    assert [(f.row, f.field, f.reason, f.check) for f in faults] == [
        (1, field, "has 9 items, at most 8 are read", "row too long")
    ]
    assert "data.bounds.items" in faults[0].remedy
    assert "row too long" not in {f.check for f in check(Reading(path, bounds=RowBounds(items=9))).faults}
    assert RowBounds().items == 1000


@pytest.mark.parametrize(
    "row",
    [
        {"k" * 5_000_000: 1},
        {f"k{i}": i for i in range(20_000)},
        {"k" * 100_000 + str(i): i for i in range(50)},
        {**PAIR, **{f"k{i}": i for i in range(20_000)}},
        {**PAIR, "k" * 5_000_000: 1},
        {"prompt": "a", "k" * 5_000_000: 1},
        {"messages": [{"k" * 5_000_000: "user", "content": "a"}]},
        {"messages": [{"role": "k" * 5_000_000, "content": "a"}]},
        {"messages": [{"role": "user", "content": "a", "k" * 5_000_000: 1}]},
        {"messages": [{"role": "user", "content": [{"type": "k" * 5_000_000}]}]},
    ],
)
def test_keys_are_named_in_brief_and_at_once(write: Write, row: Any) -> None:
    path = write("rows.jsonl", row)
    began = time.process_time()
    found = scan(path)
    assert time.process_time() - began < 2
    assert found.faults
    assert sum(len(f.field + f.reason + f.remedy) for f in found.faults) < 20_000
    with pytest.raises(DataError) as caught:
        read(path)
    assert len(str(caught.value)) < 2000


def test_a_column_map_over_many_keys_is_brief(write: Write) -> None:
    path = write("rows.jsonl", {f"k{i}": i for i in range(20_000)})
    with pytest.raises(DataError) as caught:
        read(path, columns={"prompt": "question"})
    assert len(str(caught.value)) < 1000


def test_names_are_quoted_in_brief() -> None:
    assert quoted(["a", "b"]) == "`a`, `b`"
    assert quoted(map(str, range(20)), 3) == "`0`, `1`, `2` and 17 more"
    assert quoted(["x" * 70]) == f"`{'x' * 60}…`"
    assert quoted(["a\x1b[31m"]) == "`a\\x1b[31m`"


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e400", "NaN"])
def test_numbers_beyond_every_float_are_named(write: Write, number: str) -> None:
    ranked = f'{{"prompt": "a", "completions": ["x", "y"], "scores": [1, {number}]}}'
    pair = f'{{"prompt": "a", "chosen": "b", "rejected": "c", "margin": {number}}}'
    wins = f'{{"prompt": "a", "chosen": "b", "rejected": "c", "probability": {number}}}'
    for name, line, field in (("a", ranked, "scores[2]"), ("b", pair, "margin"), ("c", wins, "probability")):
        (fault,) = check(write(f"{name}.jsonl", line)).errors
        assert (fault.row, fault.field) == (1, field)
        assert "not a" in fault.reason


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "x" * 300, "a/" * 3000, "zero\0byte.jsonl"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    (fault,) = check(name).errors
    assert fault.check == "unreadable"
    with pytest.raises(DataError):
        read(name)


def test_an_array_is_read_item_by_item(tmp_path: Path) -> None:
    rows = [{"prompt": f"é{i}", "text": "y" * (i % 50 * 1000)} for i in range(200)]
    short = json.dumps(rows)
    for text in (short, json.dumps(rows, indent=2, ensure_ascii=False), f"\ufeff{short}", " [ ] "):
        path = tmp_path / "rows.json"
        path.write_text(text, encoding="utf-8")
        with path.open("rb") as stream:
            found = [item for _, item in array(stream, "rows.json", 1 << 20) if isinstance(item, dict)]
        assert found == ([] if text == " [ ] " else rows)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"a": 1}\n, {"a": }]', "bad JSON at line 2, column 9: Expecting value"),
        ('[{"a": 1}', "bad JSON at line 1, column 10: Expecting ',' or ']'"),
        ('[{"a": 1}] x', "bad JSON at line 1, column 12: Extra data"),
        ('[{"a": 1},\n\n{"a": "x', "bad JSON at line 3, column 7: Unterminated string starting at"),
        ('[{"a": 1}, {"b": 1, "b": 2}]', "in row 2, is there twice in one object: one of the two would be lost"),
        ("[" * 100_000, "in row 1, bad JSON: it is nested too deeply"),
    ],
)
def test_a_broken_array_is_named_by_its_place(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with path.open("rb") as stream:
        last = [row for _, row in array(stream, "rows.json", 1 << 20)][-1]
    assert getattr(last, "reason", None) == reason


def test_a_byte_of_an_array_that_is_not_utf8_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    head = json.dumps([{"prompt": "é" * 1000}], ensure_ascii=False).encode()[:-1] + b', {"prompt": "'
    path.write_bytes(head + b'\xff"}]')
    with path.open("rb") as stream:
        last = [row for _, row in array(stream, "rows.json", 1 << 20)][-1]
    assert getattr(last, "reason", None) == f"byte {len(head) + 1} (0xff) is not UTF-8"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n + 1) if n < 40 }}{{ m(n + 1) if n < 40 }}{% endmacro %}{{ m(0) }}",
        "{% for a in 'x' * 99999 %}{% for b in 'x' * 99999 %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr(chat, "TEMPLATE_SECONDS", 0.3)
    made = tokenizer(template)
    encoder = Encoder(made, frozenset({made.eos_token_id}))
    with pytest.raises(ModelError, match=r"the chat template: was stopped after 0\.3 s"):
        encoder.prompt((Message("user", "a"),))


def test_work_within_its_time_is_left_alone() -> None:
    assert [within(5, lambda i=i: i) for i in range(2000)] == list(range(2000))
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            within(0.05, lambda: sum(i for i in iter(int, 1)))
    assert within(5, lambda: "and goes on") == "and goes on"
