"""The demo from its first problem to its report, at a size that takes seconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from twofold.cli.main import VERBS
from twofold.demo.introduction import INTRODUCTION
from twofold.demo.play import DemoResult, Size, play
from twofold.progress import Silent

SMALL = Size(pairs=48, generator=8, test=12, steps=2)


def told(played: DemoResult | None) -> DemoResult:
    assert played is not None
    return played


def small(out: Path, seeds: int = 1) -> DemoResult:
    return told(play(out, seeds=seeds, progress=Silent(), size=SMALL))


def test_one_seed_gives_the_table_and_the_report(tmp_path: Path) -> None:
    played = small(tmp_path)
    assert [row[0] for row in played.rows] == ["base", "DPO", "PDPO"]
    assert {row[1] for row in played.rows} == {"12"}
    assert played.rows[0][-2:] == ("–", "–")
    assert played.columns[-2:] == ("p against base", "p against DPO")
    page = played.report.read_text(encoding="utf-8")
    assert page.count("PDPO") > 3
    for term in ("the task", "base", "DPO", "PDPO"):
        assert f"<dt>{term}</dt>" in page
    assert "searched with five beams, it solves 89.6% [86.6, 92.0] of these problems untrained" in page
    assert "<code>twofold demo --seeds 5</code>" in page
    assert page.index("What this is") < page.index(">Summary<") < page.index('<section id="next">')
    results = json.loads((tmp_path / "PDPO" / "results.json").read_text())
    assert results["models"][1]["strict"]["n"] == 12
    pairs = [json.loads(line) for line in (tmp_path / "data" / "pairs.jsonl").read_text().splitlines()]
    assert all(p["chosen"] != p["rejected"] for p in pairs)
    assert all("####" in p["chosen"] and p["chosen"].count("\n") == 2 for p in pairs)


def test_the_page_and_the_readme_say_the_same_of_what_the_demo_does_not_show(root: Path) -> None:
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    figures = re.findall(r"\d+\.\d% \[[\d., ]+\]", INTRODUCTION.caveat)
    assert figures == ["89.6% [86.6, 92.0]"]
    assert figures[0] in readme
    verbs = [command.split()[1] for command, _ in INTRODUCTION.steps]
    assert set(verbs) <= {name.split()[0] for name in VERBS}


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = small(tmp_path)
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").iterdir()}
    weights = (tmp_path / "DPO" / "model" / "model.safetensors").read_bytes()
    again = small(tmp_path)
    assert again.rows == first.rows
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "data").iterdir()} == made
    assert (tmp_path / "DPO" / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_seeds_give_means_and_paired_intervals(tmp_path: Path) -> None:
    played = small(tmp_path, seeds=2)
    assert [row[:2] for row in played.rows] == [("base", "1"), ("DPO", "2"), ("PDPO", "2")]
    assert "[" in played.rows[1][4]
    assert played.rows[1][5] == "–"
    assert "[" in played.rows[2][5]
    names = {p.name for p in tmp_path.iterdir()}
    assert names >= {"DPO", "DPO-seed-1", "PDPO", "PDPO-seed-1", "report.html"}


@pytest.mark.slow
def test_stopped_it_saves_and_goes_on(tmp_path: Path) -> None:
    assert play(tmp_path, seeds=1, progress=Silent(), size=SMALL, stop=lambda: True) is None
    assert (tmp_path / "DPO" / "checkpoints" / "step-1").is_dir()
    assert small(tmp_path).rows == small(tmp_path / "whole").rows
