"""`twofold evaluate --task contest`: its table, its files, shards of it, and what a run keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.reports.html import render
from twofold.reports.run import read_run

Run = Callable[..., Any]
PROMPTS = 6


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    rows = ({"question": f"{n} + 1 = ", "answer": f"#### {n + 1}"} for n in range(PROMPTS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_players_in_one_table_in_shards_and_in_a_run(
    twofold: Run, model_folder: Path, tasks: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run@home"
    shutil.copytree(model_folder, run / "model")
    (run / "resolved.yaml").write_text("seed: 0\n", encoding="utf-8")
    words = ("evaluate", f"{run}@temperature:0,1", f"{run}@beam:2", "reference", "--task", "contest", "--tasks", tasks,
             "--judge", "verifier:flexible", "--max-new-tokens", 3)  # fmt: skip
    whole = twofold(*words, "--out", tmp_path / "out")
    assert whole.code == 0, whole.err
    told = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert told["players"][0]["name"] == "reference"
    assert (len(told["players"]), len(told["matches"]), len(told["comparisons"])) == (4, 6, 6)
    assert len((tmp_path / "out" / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 6 * PROMPTS
    shown = " ".join(whole.out.split())
    assert "Bradley–Terry" in shown
    assert "Holm's correction over 6 tests" in shown
    (kept,) = read_run(run).extra["contests"]
    assert {p["name"] for p in kept["players"]} == {
        f"{tmp_path.name}/run@home{how}" for how in ("@temperature:0", "@temperature:1", "@beam:2")
    } | {"reference"}
    assert '<section id="contests">' in render([read_run(run)], "run")
    for shard in ("0/2", "1/2"):
        part = twofold(*words, "--out", tmp_path / "parts", "--shard", shard)
        assert part.code == 0, part.err
    assert twofold("data", "merge", tmp_path / "parts").code == 0
    merged = json.loads((tmp_path / "parts" / "results.json").read_text(encoding="utf-8"))
    assert merged == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("MODEL@beem:5", "--task", "contest"), "player MODEL@beem:5: no setting is called 'beem'"),
        (("MODEL@beam:5", "--task", "preference"), "--task preference: MODEL@beam:5 is no plain model"),
        (("MODEL", "missing.jsonl", "--task", "contest"), "missing.jsonl: no such file"),
        (("MODEL", "--task", "contest"), "--task contest: requires a judge"),
        (("MODEL", "--task", "contest", "--judge", "verifier", "--canary", "x"), "means nothing to --task contest"),
        (("MODEL@temperature:0.5,x",), "'0.5,x' is not a number for temperature"),
        (("http://127.0.0.1:9/v1#m",), "add --out FOLDER"),
    ],
)
def test_mistakes_are_short(
    twofold: Run, model_folder: Path, tasks: Path, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    answer = twofold("evaluate", *(w.replace("MODEL", model_folder.name) for w in words), "--tasks", tasks)
    assert answer.code == 2
    assert told.replace("MODEL", model_folder.name) in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
