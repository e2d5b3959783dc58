"""`twofold train` from a recipe to a run directory, stopped and gone on with, and what it says to mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.signals import Stop

Run = Callable[..., Any]


@pytest.fixture
def recipe(tmp_path: Path, model_folder: Path) -> Path:
    pairs = [{"prompt": f"{n} + 1 = ", "chosen": str(n + 1), "rejected": str(n + 2)} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"# as given\nmodel: {{path: {model_folder}}}\ndata: {{train: {tmp_path}/pairs.jsonl}}\nrun: {tmp_path}/run\n"
        "training: {steps: 3, batch_size: 4}\noptimizer: {learning_rate: 1e-3}\n",
        encoding="utf-8",
    )
    return path


def test_train_leaves_a_run_directory_that_repeats(twofold: Run, recipe: Path) -> None:
    run = recipe.parent / "run"
    answer = twofold("train", recipe, "objective.beta=0.2")
    assert answer.code == 0, answer.err
    assert f"{run}: model, metrics" in answer.out
    assert (run / "recipe.yaml").read_text(encoding="utf-8").startswith("# as given")
    first = (run / "metrics.jsonl").read_bytes()
    assert json.loads(first.splitlines()[0])["step"] == 0
    assert {p.name for p in run.iterdir()} >= {"model", "report.html", "README.md", "results.json", "environment.json"}
    again = twofold("train", run / "resolved.yaml", f"run={run}-again")
    assert again.code == 0, again.err
    assert (recipe.parent / "run-again" / "metrics.jsonl").read_bytes() == first


def test_dry_run_counts_and_trains_nothing(twofold: Run, recipe: Path) -> None:
    answer = twofold("train", recipe, "--dry-run")
    assert answer.code == 0, answer.err
    assert "steps       3" in answer.out
    assert "learning_rate: 0.001" in answer.out
    assert not (recipe.parent / "run").exists()


def test_a_dry_run_for_a_gpu_that_is_not_here(twofold: Run, recipe: Path) -> None:
    answer = twofold("train", recipe, "--dry-run", "--gpu-memory", "24")
    assert answer.code == 0, answer.err
    assert "device      cuda of 24 GiB, as planned, bfloat16" in answer.out
    assert "rule of thumb" not in answer.out
    small = twofold("train", recipe, "--gpu-memory", "24")
    assert small.code == 2
    assert "--gpu-memory: is for estimates" in small.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.learning_rte=1", "did you mean `learning_rate`?"),
        ("objective.kind=dpoo", "did you mean `dpo`?"),
        ("data.train=none.jsonl", "none.jsonl: no such file"),
        ("training.batch_size=0", "must be ≥ 1"),
    ],
)
def test_a_mistake_ends_in_two_with_a_remedy(twofold: Run, recipe: Path, override: str, said: str) -> None:
    answer = twofold("train", recipe, override)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) <= 10


def test_sigterm_saves_and_the_same_command_goes_on(recipe: Path, twofold: Run) -> None:
    metrics = recipe.parent / "run" / "metrics.jsonl"
    arguments = ["train", str(recipe), "training.steps=100"]
    process = subprocess.Popen([sys.executable, "-m", "twofold", *arguments], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, told
    before = metrics.read_bytes()
    assert before.count(b"\n") < 100
    assert twofold(*arguments).code == 0
    assert metrics.read_bytes().startswith(before)
    assert [json.loads(line)["step"] for line in metrics.read_bytes().splitlines()] == list(range(100))


def test_the_first_signal_is_a_wish_and_the_second_an_end() -> None:
    with Stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert stop.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_evaluate_refuses_problems_that_a_run_was_trained_on(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    rows = [{"prompt": f"{a}?", "chosen": f"#### {a}", "rejected": "no"} for a in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {{path: {model_folder}}}\ndata: {{train: {tmp_path}/pairs.jsonl}}\nrun: {tmp_path}/run\n"
    )
    assert twofold("train", recipe, "training.steps=1").code == 0
    leak, clean = tmp_path / "leak.jsonl", tmp_path / "clean.jsonl"
    leak.write_text('{"prompt": "9?", "answer": "#### 9"}\n{"prompt": "3?", "answer": "#### 3"}\n')
    clean.write_text('{"prompt": "9?", "answer": "#### 9"}\n')
    refused = twofold("evaluate", tmp_path / "run", "--tasks", leak, "--max-new-tokens", "4")
    assert refused.code == 2
    assert "leak.jsonl:2" in refused.err
    assert twofold("evaluate", tmp_path / "run", "--tasks", clean, "--max-new-tokens", "4").code == 0
    (tmp_path / "pairs.jsonl").unlink()
    told = twofold("evaluate", tmp_path / "run", "--tasks", leak, "--max-new-tokens", "4")
    assert told.code == 0
    assert "it is not known" in told.err
