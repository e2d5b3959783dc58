"""Two workers take turns: each runs a few steps when told to, and says what they cost.

Only one computes at a time while the other waits for a line on its standard input, so both meet the same machine and
its drift cancels in the ratio of neighbouring turns. The peer's environment imports this: standard library only.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Job:
    """What a worker does: which model on which pairs, against which reference, `steps` per turn."""

    model: str
    pairs: str
    scratch: str
    reference: str
    turns: int
    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-4
    beta: float = 0.1
    clip: float = 1.0
    precision: str = "float32"


class Turns:
    """The worker's end: wait to be told, measure, answer. `settings` say how this side was set up."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print must not mix with the answers
        self._say({"settings": dict(settings)})

    def wait(self) -> None:
        """Block until the other end asks for a turn; leave when it has gone."""
        if not sys.stdin.readline():
            os._exit(0)
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def answer(self, **found: Any) -> None:
        """What the turn cost, and what was found in it."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        self._say({"cpu": cpu, "wall": wall, "peak_bytes": peak_bytes(), **found})

    def _say(self, message: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")


class Worker:
    """The benchmark's end of one worker: a module of this package under some Python, one thread, no accelerator."""

    def __init__(self, python: str | Path, module: str, job: Job) -> None:
        self.module, self.log = module, Path(job.scratch) / f"{module}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [str(python), "-W", "ignore", "-m", f"benchmarks.{module}", json.dumps(asdict(job))],
                cwd=ROOT,
                env={**os.environ, **ONE_THREAD},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.settings = self._listen()["settings"]

    def turn(self) -> dict[str, Any]:
        """Let it run one turn; returns what `Turns.answer` was given."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: its silence is told by `_listen`
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        return self._listen()

    def _listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-12:])
            raise SystemExit(f"the worker {self.module} died:\n{tail}")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def peak_bytes() -> int:
    """Most resident memory this process has held, by the kernel's mark: getrusage inherits the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text(encoding="ascii").splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
