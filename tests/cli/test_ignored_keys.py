"""Every verb that reads rows refuses a key that nothing reads, and takes --ignore; bounds of rows can be raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
PAIR = {"prompt": "1+1=", "chosen": "2", "rejected": "3"}
MOOD = {"mood": "glad", "sample_weight": 0.5}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("verb", ["check", "show", "explain", "evaluate", "sample", "score", "build"])
def test_a_key_that_nothing_reads_is_refused_until_it_is_ignored(
    twofold: Run, tmp_path: Path, model_folder: Path, verb: str
) -> None:
    task = {"prompt": "1+1=", "answer": "2"}
    file = lines(tmp_path / "rows.jsonl", {**(task if verb in ("evaluate", "build") else PAIR), **MOOD})
    out = tmp_path / "out.jsonl"
    command: tuple[object, ...] = {
        "check": ("data", "check", file),
        "show": ("data", "show", file, "--model", model_folder),
        "explain": ("explain", model_folder, file, "--reference", model_folder),
        "evaluate": ("evaluate", model_folder, "--tasks", file, "--max-new-tokens", 2),
        "sample": ("sample", model_folder, "--file", file, "max_new_tokens=2"),
        "score": ("score", file, "--judge", "verifier", "--out", out),
        "build": ("data", "build", file, "--model", model_folder, "--out", out, "sampling.max_new_tokens=2"),
    }[verb]
    if verb == "score":
        lines(file, {**PAIR, "chosen": "#### 2", "answer": "2", **MOOD})
    refused = twofold(*command)
    assert refused.code == 2
    assert "sample_weight" in refused.out + refused.err or verb == "show"
    ignored = ["ignore=[mood, sample_weight]"] if verb == "show" else ["--ignore", "mood,sample_weight"]
    answer = twofold(*command, *ignored)
    assert answer.code == 0, answer.err
    if verb == "score":
        (row,) = [json.loads(line) for line in out.read_text().splitlines()]
        assert (row["mood"], row["sample_weight"], row["chosen_score"]) == ("glad", 0.5, 1.0)


def test_rows_that_go_on_whole_may_have_keys_that_nobody_knows(twofold: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    judged = lines(tmp_path / "a.jsonl", {**PAIR, "answer": "2", "mood": "glad"})
    unjudged = lines(tmp_path / "b.jsonl", {"prompt": "1+1=", "answers": ["2", "3"], "answer": "2", "mood": "glad"})
    for file in (judged, unjudged):
        answer = twofold("score", file, "--judge", "verifier", "--out", out)
        assert answer.code == 0, answer.err
        assert json.loads(out.read_text())["mood"] == "glad"
    for file, row in ((judged, {**PAIR, "answer": "2"}), (unjudged, {"prompt": "a", "answers": ["2"], "answer": "2"})):
        answer = twofold("score", lines(file, {**row, "images": ["x.png"]}), "--judge", "verifier", "--out", out)
        assert (answer.code, "images" in answer.err) == (2, True)


def test_bounds_of_rows_are_flags_of_a_check(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    long = lines(tmp_path / "long.jsonl", PAIR, {**PAIR, "chosen": "2" * 500})
    many = lines(tmp_path / "many.jsonl", {"prompt": "a", "completions": list("abcdef")})
    for file, flag, bound in ((long, "--row-bytes", 300), (many, "--row-items", 5)):
        assert twofold("data", "check", file).code == 0
        refused = twofold("data", "check", file, flag, bound, "--json")
        assert (refused.code, json.loads(refused.out)["sources"][0]["counts"]) == (2, {"row too long": 1})
        assert twofold("data", "check", file, flag, 1000).code == 0
    shown = twofold("data", "show", many, "bounds.items=5", "--model", model_folder)
    assert "1 row, 0 usable" in shown.out


def test_a_check_takes_a_pattern_and_its_fix_keeps_the_bounds(twofold: Run, tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", PAIR)
    lines(tmp_path / "b.jsonl", {**PAIR, "mood": "glad"}, {**PAIR, "prompt": "", "chosen": ""}, {**PAIR, "prompt": "2"})
    answer = twofold("data", "check", tmp_path / "*.jsonl", "--ignore", "mood", "--json")
    assert [s["usable"] for s in json.loads(answer.out)["sources"]] == [1, 2]
    out = tmp_path / "clean.jsonl"
    how = ("--ignore", "mood", "--row-bytes", 20_000_000)
    rows = {**PAIR, "mood": "x" * 17_000_000}, {**PAIR, "chosen": ""}, {**PAIR, "prompt": "2"}
    big = lines(tmp_path / "b.jsonl", *rows)
    twofold("data", "check", big, "--fix", out, *how)
    assert [json.loads(line)["prompt"] for line in out.read_text().splitlines()] == ["1+1=", "2"]
