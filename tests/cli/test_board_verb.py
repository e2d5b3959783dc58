"""`twofold board`: what it lists, what it refuses to serve, and that it ends by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_board_lists_runs_and_stays_on_this_machine(twofold: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "metrics.jsonl").write_text('{"kind": "train", "step": 4, "loss": 1.0}\n')
    listed = twofold("board", tmp_path / "runs", "--once")
    assert listed.out.splitlines()[1].split() == ["a", "running", "5"]
    refused = twofold("board", tmp_path / "runs", "--host", "0.0.0.0")
    assert "is not an address of this machine only" in refused.err
    assert "--remote" in refused.err
    missing = twofold("board", tmp_path / "none")
    assert (refused.code, missing.code, "no such folder" in missing.err) == (2, 2, True)


def test_a_board_serves_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.jsonl").touch()
    line = [sys.executable, "-m", "twofold", "board", str(tmp_path)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as served:
        assert served.stderr is not None
        assert served.stderr.readline().startswith("1 runs in ")
        assert served.stderr.readline().startswith("http://127.0.0.1:")
        served.send_signal(signal.SIGINT)
        assert served.wait(30) in (0, 130)
