"""`--engine ray`: the same shards over a cluster, and what a lost worker, a missing package and Ctrl-C come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Body, Stub
from twofold.cli.cluster import run_command
from twofold.cli.sharding import shard_command
from twofold.shards import Shard
from twofold.version import __version__

Run = Callable[..., Any]
ROWS = 12


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    written = ({"prompt": f"{n} + 1 = ", "answers": [f"#### {n + 1}", f"#### {n}"]} for n in range(ROWS))
    path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    return path


def test_a_shard_is_the_same_command_with_its_place() -> None:
    words = ["data", "build", "a b", "--engine", "ray", "--shards=4", "--out", "o", "--ray-address", "ray://x", "k=v"]
    assert shard_command(words, Shard(3, 4)) == ["data", "build", "a b", "--out", "o", "k=v", "--shard=3/4"]


def test_without_ray_there_is_one_message(
    twofold: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    command = ("data", "build", rows, "--judge", "verifier", "--out", tmp_path / "o.jsonl", "--engine", "ray")
    answer = twofold(*command)
    assert answer.code == 2
    assert "--engine ray: ray is not installed\n  → pip install 'twofold[ray]'" in answer.err
    assert "Traceback" not in answer.err


def test_a_worker_of_another_version_does_nothing() -> None:
    with pytest.raises(RuntimeError, match=rf"it has version {__version__}, and the command has version 0\.0\.1"):
        run_command(["doctor"], ".", "0.0.1")


@pytest.fixture
def judge() -> Iterator[Stub]:
    def score(body: Body) -> str:
        time.sleep(0.5)
        return f"Score: {1 + sum(map(ord, str(body))) % 9}"

    server = Stub(score)
    yield server
    server.close()


def words(rows: Path, judge: Stub, out: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "twofold", "data", "build", str(rows), "--judge", f"llm-score:{judge.url}#m"]
    return [*command, "--all-pairs", "--out", str(out), "retry.parallel=1", *more]


def shards_of(parent: int) -> list[int]:
    """The processes that do shards, below a process."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
    above = {int(pid): int(over) for pid, over, _ in lines}

    def below(pid: int) -> bool:
        return pid == parent or (pid in above and below(above[pid]))

    return [int(pid) for pid, _, args in lines if "--shard=" in args and below(int(pid))]


def wait_for(lines: int, folder: Path, process: subprocess.Popen[str]) -> None:
    """Until so many replies are recorded."""
    while sum(p.read_bytes().count(b"\n") for p in folder.glob("pairs-*.ledger.jsonl")) < lines:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "its command"])
def test_a_killed_worker_costs_nothing(victim: str, rows: Path, judge: Stub, tmp_path: Path) -> None:
    """Two workers of a local Ray; whoever does a shard is killed with -9 after the first replies."""
    pytest.importorskip("ray", reason="pip install 'twofold[ray]'")
    whole, out = tmp_path / "whole.jsonl", tmp_path / "pairs.jsonl"
    subprocess.run(words(rows, judge, whole), check=True, capture_output=True)
    sent = len(judge.requests)
    command = words(rows, judge, out, "--engine", "ray", "--shards", "2")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(4, tmp_path, process)
        pid = shards_of(process.pid)[0]
        os.kill(pid if victim == "its command" else parent_of(pid), signal.SIGKILL)
        told, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "its worker was lost; it resumes from its ledger" in errors
    assert "2 shards over a Ray cluster started here" in errors
    assert out.read_bytes() == whole.read_bytes()
    assert told.startswith(f"{out}: "), "nothing of Ray's own stands between the results"
    assert len(judge.requests) - sent <= sent + 1, "what was in the air is asked again, and nothing else"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_ctrl_c_ends_workers_too(rows: Path, judge: Stub, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'twofold[ray]'")
    out = tmp_path / "pairs.jsonl"
    command = words(rows, judge, out, "--engine", "ray", "--shards", "2")
    heard: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # if ignored above
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard) as process:
        wait_for(4, tmp_path, process)
        running = shards_of(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, "interrupted" in errors, "Traceback" in errors) == (130, True, False), errors
    assert running
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in running):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not out.exists()
