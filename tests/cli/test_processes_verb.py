"""`twofold train --processes N`: one message, one exit code, and the same command after a process was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

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


def begin(path: Path, *arguments: str, before: Sequence[str] = ("twofold",)) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *before, "train", str(path), *arguments]
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, Tensor]:
    """The model that one process makes."""
    folder = tmp_path_factory.mktemp("alone")
    process = begin(recipe(folder, root))
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return load_file(folder / "run" / "model" / "model.safetensors")


def is_like(run: Path, alone: dict[str, Tensor]) -> None:
    made = load_file(run / "model" / "model.safetensors")
    assert list(made) == list(alone)
    assert max(float((made[name] - alone[name]).abs().max()) for name in made) <= 1e-10


def kill(rank: int, launcher: subprocess.Popen[str], run: Path) -> None:
    """Kill the process of this rank after the second step."""
    while not (run / "checkpoints" / "step-2").is_dir():
        assert launcher.poll() is None
        time.sleep(0.02)
    os.kill(process_of(rank, launcher.pid), signal.SIGKILL)


def test_a_killed_process_costs_a_line_and_the_same_command_goes_on(
    tmp_path: Path, root: Path, alone: dict[str, Tensor]
) -> None:
    path = recipe(tmp_path, root)
    launcher = begin(path, "--processes", "2", "--max-restarts", "0")
    kill(1, launcher, tmp_path / "run")
    _, err = launcher.communicate(timeout=900)
    assert launcher.returncode == 128 + signal.SIGKILL
    assert err.splitlines()[-2:] == [
        "error: process 1 of 2 was killed (SIGKILL); the others were ended",
        "  → the same command resumes from the last checkpoint",
    ]
    again = begin(path, "--processes", "2")
    _, err = again.communicate(timeout=900)
    assert again.returncode == 0
    assert "resumed at step" in err
    is_like(tmp_path / "run", alone)


def test_killed_processes_are_started_again(tmp_path: Path, root: Path, alone: dict[str, Tensor]) -> None:
    launcher = begin(recipe(tmp_path, root), "--processes", "2")
    kill(0, launcher, tmp_path / "run")
    _, err = launcher.communicate(timeout=900)
    assert launcher.returncode == 0, err
    assert "process 0 of 2 was killed (SIGKILL); all are started again (1 of 3)" in err.splitlines()
    assert "resumed at step" in err
    is_like(tmp_path / "run", alone)


def test_a_killed_launcher_and_the_same_command_at_once(tmp_path: Path, root: Path, alone: dict[str, Tensor]) -> None:
    """Its processes save and leave; whoever comes meanwhile waits for them."""
    path = recipe(tmp_path, root)
    launcher = begin(path, "--processes", "2")
    while not (tmp_path / "run" / "checkpoints" / "step-2").is_dir():
        assert launcher.poll() is None
        time.sleep(0.02)
    launcher.kill()
    again = begin(path, "--processes", "2")
    _, err = again.communicate(timeout=900)
    launcher.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "resumed at step" in err
    is_like(tmp_path / "run", alone)


def test_torchrun_starts_them_again(tmp_path: Path, root: Path, alone: dict[str, Tensor]) -> None:
    torchrun = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        "-m",
        "twofold",
    ]
    launcher = begin(recipe(tmp_path, root), before=torchrun)
    kill(1, launcher, tmp_path / "run")
    _, err = launcher.communicate(timeout=900)
    assert launcher.returncode == 0, err
    assert "resumed at step" in err
    is_like(tmp_path / "run", alone)
