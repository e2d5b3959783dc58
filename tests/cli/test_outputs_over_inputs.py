"""No verb writes its output over a file that it reads, nor two outputs into one file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pairs = [{"prompt": f"{n} + 1 = ", "chosen": f"#### {n + 1}", "rejected": str(n + 2)} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    "command",
    [
        "sample {model} --file {rows} --out {rows}",
        "sample {model} --file {rows} --out {link}",
        "score {rows} --judge verifier --out {rows}",
        "data report {rows} --out {rows}",
        "data show {rows} --model {model} --html {rows}",
        "explain {model} {rows} --html {rows} --reference {model}",
        "explain {model} {rows} --json {rows} --reference {model}",
        "evaluate {model} --tasks {rows} --json {rows}",
        "data label {rows} --out {rows}",
        "data build {rows} --out {rows} --judge verifier --model {model}",
    ],
)
def test_an_output_over_the_rows_is_refused(twofold: Run, model_folder: Path, rows: Path, command: str) -> None:
    before = rows.read_bytes()
    link = rows.with_name("link.jsonl")
    link.symlink_to(rows)
    answer = twofold(*(word.format(model=model_folder, rows=rows, link=link) for word in command.split()))
    assert answer.code == 2
    assert "would overwrite what this command reads" in " ".join(answer.err.split())
    assert rows.read_bytes() == before


def test_two_outputs_are_two_files(twofold: Run, model_folder: Path, rows: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    answer = twofold("explain", model_folder, rows, "--reference", model_folder, "--html", page, "--json", page)
    assert (answer.code, "would overwrite what this command writes" in answer.err) == (2, True)
    assert not page.exists()


def test_a_page_does_not_replace_the_log_that_it_is_made_from(twofold: Run, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("", encoding="utf-8")
    answer = twofold("report", tmp_path, "--out", tmp_path / "metrics.jsonl")
    assert (answer.code, "would overwrite what this command reads" in answer.err) == (2, True)
    assert twofold("report", tmp_path, "--out", tmp_path / "page.html").code == 0


def test_settings_of_sampling_beside_beams_are_refused(twofold: Run, model_folder: Path) -> None:
    common = ("sample", model_folder, "--prompt", "1", "--beam", 2, "max_new_tokens=2")
    answer = twofold(*common, "temperature=0.5", "seed=1")
    assert (answer.code, "leave out temperature, seed" in answer.err) == (2, True)
    assert twofold(*common, "chat=text").code == 0
