"""kill -9 of any process of a run, or of all, at any moment: the same start goes on, to the same bytes.

Processes fork from one that has everything loaded. `make kills` runs these and the kills of a launcher beside them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.resumable_runs import assembly, left_behind, loop
from twofold.training.trainer import Evaluation
from twofold.world import join

pytestmark = pytest.mark.slow

KINDS = ("offline", "offline-lora", "pdpo", "pdpo-lora", "grpo", "reward-model", "reward-model-lora", "moving")
MOMENTS = ("step", "writing", "evaluation")
VICTIMS: dict[str, tuple[int, ...]] = {"first": (0,), "second": (1,), "all": (0, 1)}
SIZE = 2
SECONDS = 300.0


def processes(run: Path, kind: str, sharing: str) -> list[int]:
    """A run in processes that fork from this one; their ids by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[int] = []
    for rank in range(SIZE):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _train(run, kind, sharing, rank, port)
                status = 0
            finally:
                os._exit(status)
        started.append(pid)
    return started


def _train(run: Path, kind: str, sharing: str, rank: int, port: int) -> None:
    os.dup2(
        os.open(os.devnull if run.name == "whole" else run.with_suffix(f".{rank}.log"), os.O_WRONLY | os.O_CREAT), 2
    )
    known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": SIZE, "LOCAL_WORLD_SIZE": SIZE, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in known.items()}})
    join()
    trainer = loop(run, kind, sharing=sharing, stored=True, evaluate_every=1)
    trainer.evaluators = [_marked(each, run / f"evaluating-{rank}") for each in trainer.evaluators]
    trainer.train()


def _marked(evaluate: Callable[[], Evaluation], mark: Path) -> Callable[[], Evaluation]:
    """The same evaluation, while which a file is there."""

    def marked() -> Evaluation:
        mark.touch()
        time.sleep(0.02)
        try:
            return evaluate()
        finally:
            mark.unlink()

    return marked


def wait(pids: list[int], run: Path) -> list[int]:
    """Until all have ended; their statuses. One that has begun its run and waits for another for ever fails the test;
    where none has, they are ended as torchrun does it: they look for each other."""
    began, statuses = time.monotonic(), dict[int, int]()
    until = began + SECONDS
    while len(statuses) < len(pids):
        for pid in (pid for pid in pids if pid not in statuses):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                statuses[pid] = status
        if statuses and time.monotonic() > began + 20 and not (run / "metrics.jsonl").is_file():
            for pid in (pid for pid in pids if pid not in statuses):
                os.kill(pid, signal.SIGTERM)
        if time.monotonic() > until:
            for pid in (pid for pid in pids if pid not in statuses):
                os.kill(pid, signal.SIGKILL)
            pytest.fail("a process waits for ever")
        time.sleep(0.005)
    return [statuses[pid] for pid in pids]


def strike(run: Path, pids: list[int], moment: str, victims: tuple[int, ...], chance: random.Random) -> str:
    """Kill at a `moment` somewhere within the run; the moment at which it was."""
    checkpoints, number = run / "checkpoints", chance.randrange(6)
    until = time.monotonic() + SECONDS
    while _steps(run) < number and time.monotonic() < until and not _any_ended(pids):
        time.sleep(0.0005)
    while time.monotonic() < until and not _any_ended(pids):
        here = {
            "step": True,
            "writing": checkpoints.is_dir() and any(p.name.startswith(".unfinished-") for p in checkpoints.iterdir()),
            "evaluation": any(run.glob("evaluating-*")),
        }[moment]
        if here:
            break
        time.sleep(0.0002)
    time.sleep(chance.uniform(0, {"step": 0.2, "writing": 0.01, "evaluation": 0.03}[moment]))
    for rank in victims:
        if not _ended(pids[rank]):
            os.kill(pids[rank], signal.SIGKILL)
    return moment


def _steps(run: Path) -> int:
    log = run / "metrics.jsonl"
    return log.read_bytes().count(b'"kind": "train"') if log.is_file() else 0


def _any_ended(pids: list[int]) -> bool:
    return any(_ended(pid) for pid in pids)


def _ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("sharing", ["replicate", "shard"])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere(kind: str, sharing: str, tmp_path: Path) -> None:
    assembly(tmp_path / "stored", kind, stored=True)  # which stores the model
    assert wait(processes(tmp_path / "whole", kind, sharing), tmp_path / "whole") == [0] * SIZE
    whole, chance, counted = left_behind(tmp_path / "whole"), random.Random(f"{kind} {sharing}"), Counter[str]()
    for moment in MOMENTS:
        for victims in VICTIMS:
            run = tmp_path / f"{moment}-{victims}"
            run.mkdir()
            pids = processes(run, kind, sharing)
            strike(run, pids, moment, VICTIMS[victims], chance)
            counted["killed" if any(wait(pids, run)) else "had ended"] += 1
            assert wait(processes(run, kind, sharing), run) == [0] * SIZE
            assert left_behind(run) == whole, f"{moment}, {victims}"
            shutil.rmtree(run)
    print(f"{kind}, {sharing}: {dict(counted)}")
    assert counted["killed"] >= len(MOMENTS) * len(VICTIMS) - 2
