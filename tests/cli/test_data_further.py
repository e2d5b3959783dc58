"""`twofold data check` with `--near`, `--overlap` and `--min-margin`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data import fault_store
from twofold.data.validate import check

Run = Callable[..., Any]
TEXT = " ".join(f"word{n}" for n in range(40))


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kinds(answer: Any) -> dict[str, int]:
    return json.loads(answer.out)["sources"][0]["counts"]


def test_near_duplicates_are_left_out_by_fix(twofold: Run, tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    pair = {"chosen": "yes", "rejected": "no"}
    rows = written(tmp_path / "rows.jsonl", {"prompt": TEXT, **pair}, {"prompt": f"{TEXT} more", **pair})
    assert kinds(twofold("data", "check", rows, "--json")) == {}
    out = tmp_path / "out.jsonl"
    assert kinds(twofold("data", "check", rows, "--near", "0.8", "--fix", out, "--json")) == {"near-duplicate": 1}
    assert [json.loads(line)["prompt"] for line in out.read_text().splitlines()] == [TEXT]


def test_the_overlap_that_counts_can_be_chosen(twofold: Run, tmp_path: Path) -> None:
    half = " ".join(TEXT.split()[:26])  # 19 of 33 sequences of 8 words
    rows = written(tmp_path / "rows.jsonl", {"prompt": "a", "chosen": half, "rejected": "no"})
    test = written(tmp_path / "test.jsonl", {"question": TEXT, "answer": "1"})
    line = ("data", "check", rows, "--against", test, "--json")
    assert kinds(twofold(*line)) == {"contamination": 1}
    assert kinds(twofold(*line, "--overlap", "0.6")) == {}


def test_pairs_against_their_scores_are_left_out(twofold: Run, tmp_path: Path) -> None:
    pair = {"chosen": "yes", "rejected": "no", "score_rejected": 2}
    rows = [{"prompt": str(n), **pair, "score_chosen": n} for n in range(4)]
    source, out = written(tmp_path / "rows.jsonl", *rows), tmp_path / "out.jsonl"
    assert kinds(twofold("data", "check", source, "--json")) == {}
    answer = twofold("data", "check", source, "--min-margin", "0.5", "--fix", out, "--json")
    assert kinds(answer) == {"low margin": 3}
    assert [json.loads(line)["prompt"] for line in out.read_text().splitlines()] == ["3"]


def test_all_faults_are_listed_when_they_are_on_disk(
    twofold: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_store, "IN_MEMORY", 3)
    rows = [{"prompt": str(n % 4), "chosen": "yes", "rejected": "yes\x07" if n % 3 else "yes"} for n in range(40)]
    path = written(tmp_path / "rows.jsonl", *rows)
    report = check(str(path))
    assert isinstance(report.faults, fault_store.StoredFaults)
    listed = json.loads(twofold("data", "check", path, "--json").out)["sources"][0]
    assert [(f["row"], f["reason"]) for f in listed["faults"]] == [(f.row, f.reason) for f in report.faults]
    assert (listed["counts"], len(listed["faults"])) == (report.counts, len(report.faults))
    shown = twofold("data", "check", path).out
    assert f"{len(report.errors)} errors, {len(report.warnings)} warnings" in shown
    assert f"… {len(report.faults) - 20} more" in shown


def test_scripts_are_compared_where_that_is_wanted(twofold: Run, tmp_path: Path) -> None:
    pair = {"chosen": "Paris is the capital of France.", "rejected": "Столица Франции называется Париж."}
    rows = written(tmp_path / "rows.jsonl", {"prompt": "What is the capital of France?", **pair})
    assert kinds(twofold("data", "check", rows, "--json")) == {}
    assert kinds(twofold("data", "check", rows, "--scripts", "--json")) == {"other script": 1}
