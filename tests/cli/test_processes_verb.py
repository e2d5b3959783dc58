"""`twofold train --processes N`: one message, one exit code, and the same command after a process was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


def recipe(folder: Path, root: Path, **bad: object) -> Path:
    rows = [
        {"prompt": f"What is {a} + {b}?", "chosen": f"{a}+{b}={a + b}\n#### {a + b}", "rejected": f"#### {a * b + 1}"}
        for a in range(2, 8)
        for b in range(2, 8)
    ]
    rows[7] |= bad
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{path: {root / 'twofold/demo/base'}, device: cpu, precision: float64}}\n"
        f"data: {{train: {folder / 'pairs.jsonl'}}}\n"
        "optimizer: {learning_rate: 5.0e-4}\n"
        "training: {steps: 8, batch_size: 8, checkpoint_every: 1}\n"
        f"run: {folder / 'run'}\nworld: {{kind: shard}}\n"
    )
    return path


def begin(path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "twofold", "train", str(path), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=path.parent
    )


def process_of(rank: int, launcher: int) -> int:
    """The process of this rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    named = f"RANK={rank}".encode()
    return next(int(c) for c in children if named in Path(f"/proc/{c}/environ").read_bytes().split(b"\0"))


def test_a_bad_row_is_told_once(tmp_path: Path, root: Path) -> None:
    launcher = begin(recipe(tmp_path, root, chosen=5), "--processes", "2")
    out, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 2
    assert out == ""
    assert err.splitlines() == [
        f"error: {tmp_path / 'pairs.jsonl'}:8, `chosen`: is a number, not text or a chat", "  → write it as text"
    ]  # fmt: skip


def test_a_killed_process_costs_a_line_and_the_same_command_goes_on(tmp_path: Path, root: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = begin(recipe(tmp_path / "alone", root))
    _, err = alone.communicate(timeout=600)
    assert alone.returncode == 0, err
    path = recipe(tmp_path, root)
    launcher = begin(path, "--processes", "2")
    while not (tmp_path / "run" / "checkpoints" / "step-2").is_dir():
        assert launcher.poll() is None
        time.sleep(0.02)
    os.kill(process_of(1, launcher.pid), signal.SIGKILL)
    _, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 128 + signal.SIGKILL
    assert err.splitlines()[-2:] == [
        "error: process 1 of 2 was killed (SIGKILL); the others were ended",
        "  → the same command goes on from the last checkpoint",
    ]
    again = begin(path, "--processes", "2")
    _, err = again.communicate(timeout=600)
    assert again.returncode == 0
    assert "resumed at step" in err
    a, b = (load_file(run / "model" / "model.safetensors") for run in (tmp_path / "run", tmp_path / "alone" / "run"))
    assert list(a) == list(b)
    assert max(float((a[name] - b[name]).abs().max()) for name in a) <= 1e-10
