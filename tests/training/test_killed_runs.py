"""A run that is killed at any moment and resumed ends with the same bytes as one that was not (design 8)."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.resumable_runs import KINDS, STEPS, assembly, left_behind, loop
from twofold.runs.build import build_trainer


def child(work: Callable[[], object]) -> int:
    """Fork, do `work` and leave; the parent gets the process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int, *, wait: bool = True) -> int | None:
    """The exit status of a child, None while it still runs; asked again, the answer stays."""
    if pid not in _ENDED:
        done, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
        if done == 0:
            return None
        _ENDED[pid] = status
    return _ENDED[pid]


_ENDED: dict[int, int] = {}


def wait_for(log: Path, lines: int, pid: int) -> None:
    """Until the child has written so many lines, or has ended: moments that do not depend on the machine's speed."""
    while log.read_bytes().count(b"\n") < lines and ended(pid, wait=False) is None:
        time.sleep(0.0005)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trials", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(kind: str, tmp_path: Path, trials: int) -> None:
    """kill -9 in a child that forked from a parent with everything loaded, then a resume in another child."""
    made, began = loop(tmp_path / "whole", kind), time.perf_counter()
    made.train()
    duration, whole = time.perf_counter() - began, left_behind(tmp_path / "whole")
    chance = random.Random(kind)
    preloaded = assembly(tmp_path / "preloaded", kind)
    killed = 0
    for trial in range(trials):
        run = tmp_path / str(trial)
        run.mkdir()
        made = build_trainer(preloaded, run)
        pid = child(made.train)
        wait_for(run / "metrics.jsonl", chance.randrange(STEPS), pid)
        time.sleep(chance.uniform(0, duration / STEPS))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed += ended(pid) != 0
        _, status = os.waitpid(child(made.train), 0)
        assert status == 0
        assert left_behind(run) == whole, f"trial {trial}"
        shutil.rmtree(run)
    assert killed >= trials // 3
