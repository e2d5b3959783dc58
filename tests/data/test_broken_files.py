"""Broken files as people bring them: each is told by row, field and remedy, none trains, none makes a traceback."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as made_by
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twofold.data.encode import encode
from twofold.data.fix import fix
from twofold.data.formats import read
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError

GOOD = {"prompt": "Which city is on the Seine?", "chosen": "It is Paris", "rejected": "It is Rome."}
ASK = {"role": "user", "content": "Which city?"}
CHAT = {"prompt": [ASK], "chosen": [{"role": "assistant", "content": "Paris"}], "rejected": "Rome"}
LABEL = {"prompt": "Which city?", "completion": "Paris", "label": True}


def good(number: int, **changes: Any) -> dict[str, Any]:
    """One of many sound rows, all different, with `changes`; a field changed to `...` is left out."""
    row = {**GOOD, "prompt": f"{GOOD['prompt']} ({number})", **changes}
    return {k: v for k, v in row.items() if v is not ...}


def lines(*rows: Any, end: str = "\n") -> bytes:
    return ("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + end).encode()


@dataclass(frozen=True)
class Broken:
    """A file and its one fault."""

    data: bytes
    row: int
    field: str
    check: str
    remedy: str
    severity: str = "error"
    name: str = "rows.jsonl"
    columns: dict[str, str] = made_by(default_factory=dict)
    encode: dict[str, Any] | None = None
    against: bytes = b""


def third(check: str, name: str, remedy: str, severity: str = "error", **changes: Any) -> Broken:
    """Two sound rows and a third that is not."""
    return Broken(lines(good(1), good(2), good(3, **changes)), 3, name, check, remedy, severity)


def chat(check: str, name: str, remedy: str, **changes: Any) -> Broken:
    return Broken(lines(CHAT, {**CHAT, **changes}), 2, name, check, remedy)


SHORT: dict[str, Any] = {"max_length": 60}
BROKEN = {
    "a field is missing": third("missing field", "rejected", "add `rejected`", rejected=...),
    "a field has another name": third("missing field", "chosen", "did you mean `chosen`?", chosen=..., choosen="a"),
    "a field is null": third("missing field", "chosen", "fill `chosen` or remove the row", chosen=None),
    "a field is a number": third("mistyped field", "chosen", "write it as", chosen=3),
    "a field is an object": third("mistyped field", "rejected", "write it as", rejected={"text": "a"}),
    "an answer is empty": third("empty field", "chosen", "remove the row", chosen=""),
    "an answer is white space": third("empty field", "rejected", "remove the row", rejected=" \n\t"),
    "a prompt is white space": third("empty prompt", "prompt", "fill it", "warning", prompt="  "),
    "chosen is rejected": third("chosen = rejected", "rejected", "remove the row", "warning", rejected="It is Paris "),
    "a row is there twice": Broken(lines(good(1), good(2), good(1)), 3, "", "duplicate", "remove the row", "warning"),
    "a pair is there both ways": Broken(
        lines(good(1), good(2), good(1, chosen="It is Rome.", rejected="It is Paris")),
        *(3, "", "contradiction", "keep the row that is right", "warning"),
    ),
    "an answer is good and bad": Broken(
        lines(LABEL, {**LABEL, "label": False}), 2, "label", "contradiction", "keep the row that is right", "warning"
    ),
    "a label is a word": Broken(lines(LABEL, {**LABEL, "label": "perhaps"}), 2, "label", "mistyped field", "true"),
    "a control character": third("control character", "chosen", "clean the text", "warning", chosen="Pa\x00ris"),
    "a broken decoder's mark": third("control character", "prompt", "clean the text", "warning", prompt="Caf\ufffd"),
    "an unknown role": chat("unknown role", "prompt", "roles are", prompt=[{"role": "boss", "content": "a"}]),
    "no assistant turn": chat("no assistant turn", "chosen", "", chosen=[{"role": "user", "content": "a"}]),
    "a chat without messages": chat("empty field", "chosen", "remove the row", chosen=[]),
    "a message without content": chat("mistyped field", "prompt", "write messages as", prompt=[{"role": "user"}]),
    "a message with a number": chat(
        "mistyped field", "prompt", "write messages as", prompt=[{"role": "user", "content": 3}]
    ),
    "a prompt that is answered": chat(
        "unanswerable prompt", "prompt", "user turn", prompt=[ASK, {"role": "assistant", "content": "a"}]
    ),
    "mixed formats": Broken(
        lines(good(1), good(2), {"question": "a", "answer": "b"}), 3, "", "mixed formats", "keep one shape per file"
    ),
    "no known columns": Broken(lines({"foo": 1, "bar": 2}), 1, "", "unknown shape", "common shapes"),
    "a column map that misses": Broken(
        lines(good(1)), 1, "prompt", "missing field", "did you mean `prompt`?", columns={"prompt": "promt"}
    ),
    "bad JSON": Broken(lines(good(1), '{"prompt": oops}', good(2)), 2, "", "bad JSON", "one JSON object per line"),
    "a row that is a list": Broken(lines(good(1), "[1, 2]", good(2)), 2, "", "bad JSON", "write rows as"),
    "a byte order mark": Broken(
        b"\xef\xbb\xbf" + lines(good(1), good(2)), 1, "", "BOM", "save as UTF-8 without BOM", "warning"
    ),
    "a byte that is not UTF-8": Broken(
        lines(good(1)) + b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}\n', 2, "", "bad UTF-8", "save the file"
    ),
    "the last line cut": Broken(
        lines(good(1), '{"prompt": "a", "cho', end=""), 2, "", "truncated last line", "copy or write the file again"
    ),
    "an empty file": Broken(b"", 0, "", "no rows", "check the file and the split"),
    "a gzip file cut": Broken(
        gzip.compress(lines(*map(good, range(2000))), mtime=0)[:-3000],
        -1, "", "unreadable", "copy or write", name="rows.jsonl.gz"
    ),
    "parquet that is none": Broken(b"PAR1 oops", 0, "", "unreadable", "copy or write", name="rows.parquet"),
    "CSV with too many cells": Broken(
        b"prompt,chosen,rejected\na,b,c\nd,e, no,f\n", 3, "", "bad CSV", "between quotes", name="rows.csv"
    ),
    "evaluated on what was trained on": Broken(
        lines(good(1), good(2)), 2, "prompt", "overlap", "remove the row here or there", against=lines(good(2))
    ),
    "longer than the model": Broken(
        lines(good(1), good(2, chosen="long " * 20)), 2, "", "over-long", "raise max_length", "warning", encode=SHORT
    ),
    "the stop token alone": Broken(
        lines(good(1), good(2, chosen="</s>")), 2, "chosen", "no supervised token", "remove the row", encode={}
    ),
    "a stop token in the text": Broken(
        lines(good(1), good(2, chosen="Paris</s> or not")), 2, "chosen", "stop token inside", "remove it", encode={}
    ),
    "a template that never stops": Broken(
        lines(CHAT), 0, "", "stop token missing", "let the template end", "warning", encode={"stops": False}
    ),
    # Five that nobody asked for.
    "a field twice in a row": Broken(
        lines(good(1), '{"prompt": "a", "chosen": "b", "chosen": "c", "rejected": "d"}', good(2)),
        *(2, "chosen", "field twice", "keep one of them"),
    ),
    "half a character": Broken(
        lines(good(1), '{"prompt": "a", "chosen": "b \\ud83d", "rejected": "c"}'),
        *(2, "chosen", "bad UTF-8", "write the text again"),
    ),
    "UTF-16, as Windows saves it": Broken(
        lines(good(1)).decode().encode("utf-16"), 1, "", "bad UTF-8", "save the file as UTF-8"
    ),
    "length tells good from bad": Broken(
        lines(*(good(n, chosen="It is Paris, of course.") for n in range(120))),
        *(0, "", "length bias", "balance the lengths", "warning"),
    ),
    "nested a thousand deep": Broken(
        lines(good(1), '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"), 2, "", "bad JSON", "one JSON object"
    ),
    "a tool call that would be lost": chat(
        "mistyped field", "prompt", "remove the row",
        prompt=[ASK, {"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}, ASK],
    ),
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def encoder(tokenizer: Any, options: dict[str, Any] | None) -> Encoder | None:
    if options is None:
        return None
    made = tokenizer(TEMPLATE) if not options.get("stops", True) else tokenizer(None)
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(max_length=options.get("max_length", 1024)))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_by_row_field_and_remedy(tmp_path: Path, tokenizer: Any, name: str) -> None:
    case = BROKEN[name]
    path = tmp_path / case.name
    path.write_bytes(case.data)
    (tmp_path / "other.jsonl").write_bytes(case.against)
    against = str(tmp_path / "other.jsonl") if case.against else None
    look: dict[str, Any] = {"encoder": encoder(tokenizer, case.encode), "against": against, "columns": case.columns}
    report = check(str(path), **look)
    fault = report.faults[-1]
    assert (fault.field, fault.check, fault.severity) == (case.field, case.check, case.severity)
    assert case.row in (fault.row, -1)
    assert fault.file == str(path)
    assert case.remedy in fault.remedy
    assert fault.reason
    assert {f.check for f in report.faults} == {case.check}, "one thing is wrong, and nothing else is said to be"
    assert report.ok == (case.severity == "warning")


def used(path: str, columns: dict[str, str], made: Encoder | None) -> None:
    """What training does with a file before its first step."""
    records = read(path, columns=columns).records
    if made:
        encode(records, made)


@pytest.mark.parametrize("name", [n for n, case in BROKEN.items() if case.severity == "error"])
def test_none_is_read_for_training(tmp_path: Path, tokenizer: Any, name: str) -> None:
    case = BROKEN[name]
    (tmp_path / case.name).write_bytes(case.data)
    made = encoder(tokenizer, case.encode)
    if case.against:
        return  # tests/data/test_split.py
    with pytest.raises(DataError) as caught:
        used(str(tmp_path / case.name), case.columns, made)
    assert str(tmp_path / case.name) in str(caught.value)


@pytest.mark.parametrize("name", [n for n, c in BROKEN.items() if c.row > 0 and not c.against and not c.columns])
def test_fixed_it_checks_clean(tmp_path: Path, tokenizer: Any, name: str) -> None:
    case = BROKEN[name]
    path, out = tmp_path / case.name, tmp_path / f"clean.{case.name.removeprefix('rows.')}"
    path.write_bytes(case.data)
    made = encoder(tokenizer, case.encode)
    report = check(str(path), encoder=made)
    bad = {f.row for f in report.faults if f.check != "BOM"}
    if len(bad) == report.rows:
        with pytest.raises(DataError, match="no row is without faults"):
            fix(report, str(out), lambda p: check(p, encoder=made))
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        return
    fixed = fix(report, str(out), lambda p: check(p, encoder=made))
    again = check(str(out), encoder=made)
    assert again.faults == ()
    assert (fixed.kept, fixed.left_out) == (again.rows, len(bad)) == (report.rows - len(bad), len(bad))
    beside = tmp_path / f"{out.name}.left-out.jsonl"
    listed = [json.loads(line) for line in beside.read_text().splitlines()] if bad else []
    assert {entry["row"] for entry in listed} == bad
    assert all(entry["reasons"] for entry in listed)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, out.name, *([beside.name] if bad else [])])


def test_there_are_forty() -> None:
    assert len(BROKEN) >= 40


rows = st.sampled_from([GOOD, CHAT, LABEL, {"prompt": "a", "completion": "b"}, {"question": "a", "answer": "1"}])
junk = st.sampled_from(
    [None, True, 0, -1.5, "", " ", "a", "\x00", "\ud800", [], {}, [None], [ASK], {"role": "user"}, ["a", "b"]]
)


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """Lines of which any may have lost, gained or exchanged a field, a message or some bytes."""
    made: list[bytes] = []
    first = draw(rows)
    for number in range(draw(st.integers(1, 5))):
        row: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from([first, first, first, draw(rows)]))))
        if isinstance(row.get("prompt"), str):
            row["prompt"] += str(number)
        for _ in range(draw(st.integers(0, 2))):
            key = draw(st.sampled_from([*row, "extra"]))
            if draw(st.booleans()):
                row[key] = draw(junk)
            else:
                row.pop(key, None)
        line = bytearray(json.dumps(row).encode())
        for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
            line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255).filter(lambda b: b != 10))
        made.append(bytes(line))
    return made


@given(made=mutated())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_row_is_used_or_its_fault_is_named(tmp_path: Path, tokenizer: Any, made: list[bytes]) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "clean.jsonl"
    path.write_bytes(b"\n".join(made) + b"\n")
    for each in (None, encoder(tokenizer, {})):
        report = check(str(path), encoder=each)
        named = {f.row for f in report.faults if f.row}
        assert report.rows - report.records <= len(named) <= report.rows
        assert all(f.reason and f.remedy and f.check and f.file for f in report.faults)
        if report.ok and each is None and report.records:
            assert len(read(str(path)).records) == report.records
    report = check(str(path))
    if all(row in {f.row for f in report.faults if f.check != "BOM"} for row in range(1, len(made) + 1)):
        with pytest.raises(DataError, match="no row"):
            fix(report, str(out), check)
        return
    with suppress(DataError):  # its last row may turn out to be another shape than those that were left out
        fixed = fix(report, str(out), check)
        assert check(str(out)).faults == ()
        assert fixed.kept == check(str(out)).rows
    for path in tmp_path.glob("clean.jsonl*"):
        path.unlink()
