"""Broken files as people bring them: each is told by row, field and remedy, none makes a traceback. That no run trains
on them: tests/cli/test_broken_training.py."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.broken_files import ASK, BROKEN, CHAT, FATAL, GOOD, LABEL
from twofold.data.encode import encode
from twofold.data.fix import fix
from twofold.data.formats import read
from twofold.data.load import load
from twofold.data.reading import Reading
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.progress import Silent

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


def used(path: Path, columns: dict[str, str], made: Encoder | None) -> None:
    """What training does with a file before its first step."""
    records = load(Reading(str(path), columns), path.parent / "cache", Silent()).records
    if made:
        encode(records, made)


@pytest.mark.parametrize("name", [n for n, case in FATAL.items() if not case.against])
def test_none_is_read_for_training(tmp_path: Path, tokenizer: Any, name: str) -> None:
    case = FATAL[name]
    path = tmp_path / case.name
    path.write_bytes(case.data)
    with pytest.raises(DataError) as caught:
        used(path, case.columns, encoder(tokenizer, case.encode))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["chosen is rejected", "a ranking that ties", "a pair is there both ways"])
def test_what_can_be_read_can_be_accepted(tmp_path: Path, name: str) -> None:
    case = BROKEN[name]
    path = tmp_path / case.name
    path.write_bytes(case.data)
    for accepted in ((), ("same rank",), ("chosen = rejected", "contradiction")):
        reading = Reading(str(path), accept=accepted)  # type: ignore[arg-type]  # pyright widens the names
        if case.check in accepted:
            assert len(load(reading, tmp_path, Silent()).records) == len(case.data.splitlines())
        else:
            with pytest.raises(DataError):
                load(reading, tmp_path, Silent())


REPAIRED = ("a control character", "UTF-16, as Windows saves it")


@pytest.mark.parametrize("name", [n for n, c in BROKEN.items() if c.row > 0 and not c.against and not c.columns])
def test_fixed_it_checks_clean(tmp_path: Path, tokenizer: Any, name: str) -> None:
    case = BROKEN[name]
    path, out = tmp_path / case.name, tmp_path / f"clean.{case.name.removeprefix('rows.')}"
    path.write_bytes(case.data)
    made = encoder(tokenizer, case.encode)
    report = check(str(path), encoder=made)
    bad = {f.row for f in report.faults if f.check != "BOM" and name not in REPAIRED}
    if len(bad) == report.rows:
        with pytest.raises(DataError, match="no row is without faults"):
            fix(report, str(out), lambda p: check(p, encoder=made))
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        return
    fixed = fix(report, str(out), lambda p: check(p, encoder=made))
    again = check(str(out), encoder=made)
    assert again.faults == ()
    assert (fixed.rows_left, fixed.left_out) == (again.rows, len(bad))
    assert fixed.repairs if name in REPAIRED else again.rows == report.rows - len(bad)
    beside = tmp_path / f"{out.name}.left-out.jsonl"
    listed = [json.loads(line) for line in beside.read_text().splitlines()] if bad else []
    assert {entry["row"] for entry in listed} == bad
    assert all(entry["reasons"] for entry in listed)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, out.name, *([beside.name] if bad else [])])


def test_forty_are_refused() -> None:
    assert len(FATAL) >= 40


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
    # A byte order mark and control characters are repaired.
    if all(row in {f.row for f in report.faults if f.severity == "error"} for row in range(1, len(made) + 1)):
        with pytest.raises(DataError, match="no row"):
            fix(report, str(out), check)
        return
    with suppress(DataError):  # its last row may turn out to be another shape than those that were left out
        fixed = fix(report, str(out), check)
        assert check(str(out)).faults == ()
        assert fixed.rows_left == check(str(out)).rows
    for path in tmp_path.glob("clean.jsonl*"):
        path.unlink()
