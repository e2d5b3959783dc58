"""`twofold data check` as people use it: the summary, `--columns`, `--fix`, `--json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def pairs(number: int, longer: str = "chosen") -> list[dict[str, str]]:
    rows = [{"prompt": f"p{n}", "chosen": "aaa", "rejected": "bbb"} for n in range(number)]
    return [{**row, longer: row[longer] * 3} for row in rows]


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_the_summary_says_how_long_rows_are_and_whether_length_is_chosen(
    twofold: Run, tmp_path: Path, model_folder: Path
) -> None:
    path = written(tmp_path / "rows.jsonl", [*pairs(120), *pairs(3, "rejected")])
    answer = twofold("data", "check", path, "--model", model_folder)
    assert answer.code == 0
    assert (
        "the longer answer is chosen in 97.6% of 123 pairs [93.1%, 99.2%]: longer answers are preferred" in answer.out
    )
    assert "balance the lengths" in answer.out
    assert "tokens of prompt and longest completion: mean" in answer.out
    assert "in all 3 × duplicate, 1 × length bias" not in answer.out
    told = json.loads(twofold("data", "check", path, "--model", model_folder, "--json").out)["sources"][0]
    assert told["length_bias"] | {"share": None, "words": ""} == {
        "longer_chosen": 120, "longer_rejected": 3, "same_length": 0, "share": None, "words": "",
    }  # fmt: skip
    assert sum(told["tokens"]["counts"]) == 123
    assert told["tokens"]["edges"][-1] >= told["tokens"]["max"]
    assert told["counts"] == {"length bias": 1}


@pytest.mark.parametrize("name", ["clean.jsonl", "clean.json", "clean.csv", "clean.jsonl.gz"])
def test_fix_writes_clean_rows_that_check_clean(twofold: Run, tmp_path: Path, name: str) -> None:
    good = pairs(4)
    path = written(tmp_path / "rows.jsonl", [*good[:3], good[0], '{"prompt": oops', {**good[3], "chosen": ""}, good[3]])
    out = tmp_path / name
    answer = twofold("data", "check", path, "--fix", out, "--json")
    assert answer.code == 2, "the file that was checked is no better for it"
    fixed = json.loads(answer.out)["fixed"]
    assert (fixed["rows_left"], fixed["left_out"]) == (4, 3)
    assert fixed["reasons"] == {"duplicate": 1, "bad JSON": 1, "empty field": 1}
    again = twofold("data", "check", out)
    assert (again.code, "4 rows, 4 usable" in again.out, "no faults" in again.out) == (0, True, True)
    listed = [json.loads(line) for line in Path(fixed["beside"]).read_text().splitlines()]
    assert [entry["row"] for entry in listed] == [4, 5, 6]
    assert listed[0] == {"row": 4, "reasons": ["repeats row 1"], "data": good[0]}
    if name == "clean.jsonl":
        assert [json.loads(line) for line in out.read_text().splitlines()] == good
    if name == "clean.csv":
        assert list(csv.DictReader(out.read_text().splitlines())) == good


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("clean.parquet", "unknown kind of file to write"),
        ("rows.jsonl", "is there already"),
    ],
)
def test_fix_refuses_where_it_cannot_write(twofold: Run, tmp_path: Path, out: str, message: str) -> None:
    path = written(tmp_path / "rows.jsonl", pairs(3))
    answer = twofold("data", "check", path, "--fix", tmp_path / out)
    assert (answer.code, message in answer.err) == (2, True)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_columns_may_be_named(twofold: Run, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"q": f"{n}", "good": "a", "bad": "b"} for n in range(3)])
    named = [x for pair in ("prompt=q", "chosen=good", "rejected=bad") for x in ("--columns", pair)]
    assert twofold("data", "check", path).code == 2
    assert twofold("data", "check", path, *named).code == 0
    wrong = twofold("data", "check", path, "--columns", "prompt")
    assert (wrong.code, "--columns" in wrong.err and "write OURS=THEIRS" in wrong.err) == (2, True)
