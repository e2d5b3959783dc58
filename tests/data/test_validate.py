from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import Report, check

Write = Callable[..., str]


def row(prompt: str = "a", chosen: str = "b", rejected: str = "c") -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def found(report: Report) -> list[tuple[int, str, str]]:
    return [(f.row, f.field, f.check) for f in report.faults]


def test_sound_rows_have_no_faults(write: Write) -> None:
    report = check(write("rows.jsonl", row("a"), row("b")))
    assert (report.ok, report.rows, report.records, report.format) == (True, 2, 2, "prompt + chosen + rejected")
    assert report.faults == ()


def test_every_fault_is_collected_in_order_of_rows(write: Write) -> None:
    path = write(
        "rows.jsonl",
        "\ufeff" + json.dumps(row("one")),
        '{"prompt": oops}',
        {"prompt": "a", "chosen": None, "rejected": " "},
        row("two", "same", "same "),
        row("one"),
        row("one", "c", "b"),
        row("three\x07"),
        {"question": "a", "answer": "b"},
        row("  "),
        {"prompt": [{"role": "bot", "content": "a"}], "chosen": "b", "rejected": "c"},
        {"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "user", "content": "b"}], "rejected": "c"},
        '{"prompt": "cut',
        end="",
    )
    report = check(path)
    assert found(report) == [
        (1, "", "BOM"),
        (1, "", "contradiction"),
        (2, "", "bad JSON"),
        (3, "chosen", "missing field"),
        (3, "rejected", "empty field"),
        (4, "rejected", "chosen = rejected"),
        (5, "", "duplicate"),
        (5, "", "contradiction"),
        (6, "", "contradiction"),
        (7, "prompt", "control character"),
        (8, "", "mixed formats"),
        (9, "prompt", "empty prompt"),
        (10, "prompt", "unknown role"),
        (11, "chosen", "no assistant turn"),
        (12, "", "truncated last line"),
    ]
    assert (report.ok, report.rows, report.records) == (False, 12, 2)
    assert report.counts["contradiction"] == 3
    assert {f.check for f in report.errors} == {
        "bad JSON",
        "missing field",
        "chosen = rejected",
        "contradiction",
        "empty field",
        "mixed formats",
        "unknown role",
        "no assistant turn",
        "truncated last line",
    }
    assert all(f.file == path and f.reason and f.remedy for f in report.faults)
    assert len(report.errors) + len(report.warnings) == len(report.faults)


def test_several_fields_of_one_row_are_all_named(write: Write) -> None:
    assert found(check(write("rows.jsonl", {"prompt": 1, "chosen": None, "rejected": [3]}))) == [
        (1, "prompt", "mistyped field"),
        (1, "chosen", "missing field"),
        (1, "rejected", "mistyped field"),
    ]
    assert found(check(write("rows.jsonl", row("a", "", " ")))) == [
        (1, "chosen", "empty field"),
        (1, "rejected", "empty field"),
    ]


def test_the_first_of_a_duplicate_is_named(write: Write) -> None:
    report = check(write("rows.jsonl", row("a"), row("b"), row("a")))
    assert [(f.row, f.reason) for f in report.faults] == [(3, "repeats row 1")]


def test_bad_utf8_is_a_fault_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\xe9"}\n' + json.dumps(row()).encode() + b"\n")
    report = check(str(path))
    assert (found(report), report.records) == ([(1, "", "bad UTF-8")], 1)


def test_what_is_not_there_is_a_fault_of_the_file(write: Write, tmp_path: Path) -> None:
    for source, name in [(str(tmp_path / "no.jsonl"), "unreadable"), (write("rows.jsonl", end=""), "no rows")]:
        report = check(source)
        assert (found(report), report.ok) == ([(0, "", name)], False)


def test_prompts_of_the_other_source_are_errors(write: Write) -> None:
    train = write("train.jsonl", row("a  b"), row("c"))
    test = write("test.jsonl", {"question": "d", "answer": "1"}, {"question": "a b", "answer": "1"})
    report = check(train, against=test)
    assert found(report) == [(1, "prompt", "overlap")]
    assert report.faults[0].reason == f"is also at {test}:2"
    assert not report.ok
    assert found(check(train, against=test + ".gone.jsonl")) == [(0, "", "unreadable")]


def test_an_encoder_adds_what_it_cannot_use(write: Write, tokenizer: Any) -> None:
    made = tokenizer(None)
    chat = {"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}
    path = write("rows.jsonl", row(), row("a" * 40), row("b", "</s>", "c"), chat)
    modes = TokenizeSettings(max_length=20), TokenizeSettings(max_length=20, truncation="refuse")
    for mode, severity in zip(modes, ("warning", "error"), strict=True):
        report = check(path, encoder=Encoder(made, frozenset({made.eos_token_id}), mode))
        assert found(report) == [
            (2, "", "over-long"),
            (3, "chosen", "no supervised token"),
            (4, "prompt", "not encodable"),
        ]
        assert report.faults[0].severity == severity
        assert report.faults[0].reason == "has 42 tokens, max_length is 20"


@pytest.mark.parametrize("encoded", [False, True])
def test_the_longer_answer_is_counted_on_its_side(write: Write, tokenizer: Any, encoded: bool) -> None:
    """In characters, or with an encoder in tokens; three pairs choose the longer, one the shorter, one neither."""
    made = tokenizer(None)
    encoder = Encoder(made, frozenset({made.eos_token_id})) if encoded else None
    rows = [row(str(i), "abcd", "ab") for i in range(3)]
    report = check(write("rows.jsonl", *rows, row("x", "a", "bcd"), row("y", "ab", "cd")), encoder=encoder)
    assert report.bias is not None
    assert (report.bias.chosen, report.bias.rejected, report.bias.same) == (3, 1, 1)


@given(data=st.binary(max_size=200))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.parquet"])
def test_no_bytes_make_a_check_raise(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert not check(str(tmp_path / name)).ok


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=3)})
    ),
    max_leaves=6,
)
keys = st.sampled_from(
    ["prompt", "chosen", "rejected", "completion", "completions", "answer", "question", "label", "other"]
)


@given(rows=st.lists(st.dictionaries(keys, values, max_size=5), max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_rows_make_a_check_raise(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    report = check(str(path))
    assert report.rows == len(rows)
    assert report.records + len({f.row for f in report.errors if f.row}) == len(rows)


def test_the_check_of_a_file_needs_neither_torch_nor_datasets() -> None:
    code = "import sys, twofold.data.validate; print(sorted({'torch', 'datasets', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
