"""What a file or a row is refused for is what is wrong with it: its kind, its encoding, where its JSON ends."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data.formats import scan

ROW = json.dumps({"prompt": "q", "completion": "a"})
CUT = "the last line is cut off: it is no complete JSON and has no line end"


def fault(path: Path) -> tuple[int, str]:
    (found,) = scan(str(path)).faults
    return found.row, found.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ROW[:-1], CUT),
        (ROW[:-2], CUT),
        ('{"prompt": "q", "completion": "a", "x": fals', CUT),
        ('{"prompt": "q", "completion": "\\u00', CUT),
        (ROW + ROW, f"bad JSON at column {len(ROW) + 1}: Extra data"),
        (ROW + "\r" + ROW, f"bad JSON at column {len(ROW) + 2}: Extra data"),
        (ROW.replace('"', "'"), "bad JSON at column 2: Expecting property name enclosed in double quotes"),
        ("}", "bad JSON at column 1: Expecting value"),
    ],
)
def test_a_last_line_is_cut_where_json_would_go_on(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    assert fault(tmp_path / "rows.jsonl") == (1, reason)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
@pytest.mark.parametrize(("encoding", "name_of_it"), [
    ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32"),
    ("utf-32-be", "UTF-32"),
])  # fmt: skip
def test_encodings_of_several_bytes_are_named(tmp_path: Path, name: str, encoding: str, name_of_it: str) -> None:
    text = ROW if name.endswith("jsonl") else "prompt,completion\nq,a\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert fault(tmp_path / name) == (1, f"the file is {name_of_it}")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_a_packed_file_under_another_name_is_named(tmp_path: Path, name: str) -> None:
    ending = name.removeprefix("rows")
    (tmp_path / name).write_bytes(gzip.compress(ROW.encode()))
    assert fault(tmp_path / name) == (0, f"the file begins as .gz files do, and its name ends in {ending}")
    pq.write_table(pa.table({"prompt": ["q"], "completion": ["a"]}), tmp_path / name)
    assert fault(tmp_path / name) == (0, f"the file begins as .parquet files do, and its name ends in {ending}")


def test_a_column_called_as_parquet_begins_is_a_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("PAR1_id,prompt,completion\n1,q,a\n")
    assert scan(str(tmp_path / "rows.csv")).faults == []


@pytest.mark.parametrize(("weight", "reason"), [
    (1e308, "is 1e+308, and training in single precision takes numbers up to 1e+30"),
    (1e-40, "is 1e-40, which is 0 in single precision"),
])  # fmt: skip
def test_a_weight_that_single_precision_does_not_hold_is_refused(tmp_path: Path, weight: float, reason: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "q", "completion": "a", "weight": weight}))
    assert fault(tmp_path / "rows.jsonl") == (1, reason)
