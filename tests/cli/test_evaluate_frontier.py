"""`twofold evaluate --task frontier`: points of runs and checkpoints, what reports read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.cli.main import main
from twofold.reports.run import read_run

Run = Callable[..., Any]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of one method: a few steps of SFT towards the digit 7."""
    folder = tmp_path_factory.mktemp("runs")
    rows = lines(folder / "sevens.jsonl", *({"prompt": f"{n}: ", "completion": "7"} for n in range(32)))
    for seed in (0, 1):
        recipe = {
            "model": {"path": str(model_folder), "precision": "float32"},
            "data": {"train": str(rows)},
            "objective": {"kind": "sft"},
            "training": {"steps": 6, "batch_size": 16, "checkpoint_every": 3, "keep_checkpoints": 2},
            "optimizer": {"learning_rate": 0.02},
            "seed": seed,
            "run": str(folder / f"run-{seed}"),
        }
        with pytest.raises(SystemExit) as end:
            main(["train", str(lines(folder / f"{seed}.yaml", recipe))])
        assert not end.value.code
    return [folder / "run-0", folder / "run-1"]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return lines(tmp_path / "tasks.jsonl", *({"question": f"{n} + 0 = ", "answer": "7"} for n in range(40, 52)))


HOW = ("--task", "frontier", "--reward", "verifier:flexible", "--max-new-tokens", 3, "--samples", 4)


def test_runs_and_checkpoints_are_points(twofold: Run, runs: list[Path], tasks: Path, tmp_path: Path) -> None:
    right = {"prompt": "p", "chosen": "7", "rejected": "8", "answer": "7"}
    pairs = lines(tmp_path / "pairs.jsonl", right, {**right, "prompt": "q", "answer": "8"}, {**right, "prompt": "r"})
    answer = twofold("evaluate", *runs, "--tasks", tasks, *HOW, "--checkpoints", "--out", tmp_path / "out",
                     "--best-of", "2,4", "--judge-pairs", pairs)  # fmt: skip
    assert answer.code == 0, answer.err
    told = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert [(p["model"], p["step"]) for p in told["points"]] == [(str(r), step) for r in runs for step in (3, 6)]
    early, late = told["points"][:2]
    assert 0 < early["kl"]["value"] < late["kl"]["value"]
    assert (told["judge_check"]["accuracy"]["count"], told["judge_check"]["accuracy"]["n"]) == (2, 3)
    assert "judge: right on 66.7% [" in " ".join(answer.out.split())
    assert read_run(runs[0]).extra["frontier"][0]["judge_accuracy"]["count"] == 2
    assert late["reward"]["value"] > told["reference"]["reward"]["value"]
    assert late["reward"]["n"] == 12
    assert (told["samples"], told["reward"]["metric"]) == (4, "flexible")
    (height,) = told["areas"]["heights"].values()
    assert height["n"] == 2  # seeds of one method
    assert [b["n"] for b in told["best_of"]] == [2, 4]
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    own = [r for r in rows if r["model"] == f"{runs[0]}, step 6"]
    assert sum(r["kl"] for r in own) / 12 == pytest.approx(late["kl"]["value"])
    kept = read_run(runs[0]).extra["frontier"]
    assert [(r["of"], r.get("step")) for r in kept] == [("verifier:flexible", s) for s in (None, 3, 6)]
    assert kept[0]["kl"]["value"] == 0.0
    assert kept[2]["reward"] == late["reward"]


def test_a_run_is_its_last_checkpoint(twofold: Run, runs: list[Path], tasks: Path, tmp_path: Path) -> None:
    """But for rounding: a checkpoint keeps float32, `model/` is written in bfloat16 as its base is."""
    found = []
    for words in (("--checkpoints",), ()):
        answer = twofold("evaluate", runs[0], "--tasks", tasks, *HOW, *words, "--json", tmp_path / "told.json")
        assert answer.code == 0, answer.err
        found.append(json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))["points"][-1])
    for name in ("kl", "kl_drawn", "reward"):
        assert found[0][name]["value"] == pytest.approx(found[1][name]["value"], rel=0.02, abs=0.005)


def test_the_reference_is_no_distance_from_itself(
    twofold: Run, model_folder: Path, tasks: Path, tmp_path: Path
) -> None:
    words = ("evaluate", model_folder, "--reference", model_folder, "--tasks", tasks, *HOW)
    assert twofold(*words, "--json", tmp_path / "t.json").code == 0
    told = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert told["points"][0]["kl"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert told["points"][0]["reward"] == told["reference"]["reward"]
    assert told["points"][0]["tokens"] == told["reference"]["tokens"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--reference", "x"), "requires a reward"),
        (("--reward", "verifier"), "--reference MODEL"),
        (("--reward", "llm:http://127.0.0.1:1/v1#j", "--reference", "x", "--out", "o"), "llm compares answers"),
        (("--reward", "llm-score:http://127.0.0.1:1/v1#j", "--reference", "x"), "add --out FOLDER"),
        (("--reward", "verifier", "--reference", "x", "--best-of", "many"), "no list of numbers"),
        (("--reward", "verifier", "--against", "x"), "means nothing to --task frontier"),
    ],
)
def test_mistakes_are_short(twofold: Run, model_folder: Path, tasks: Path, words: tuple[str, ...], told: str) -> None:
    words = tuple(str(model_folder) if word == "x" else word for word in words)
    answer = twofold("evaluate", model_folder, "--task", "frontier", "--tasks", tasks, *words)
    assert answer.code == 2
    assert told in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
