"""Shards on a Ray cluster: each is the verb's own command with `--shard`, in a separate process next to a worker.

If a worker is lost (killed, out of memory, its machine down), its shard starts again and resumes from its ledger. Only
unrecorded work is lost. All machines must see the same folders, and have the same twofold.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from twofold.errors import RecipeError, ServerError, TwofoldError
from twofold.progress import Progress, counted

ATTEMPTS = 5
"""Maximum number of starts of one shard."""
TASK = "shards"
LAST = 4000  # characters of a command's last output
_PARENT_DIES = 1  # PR_SET_PDEATHSIG, prctl(2)


class Cluster:
    """A Ray cluster by its address, or RAY_ADDRESS, or one that is started on this machine; a context manager."""

    def __init__(self, address: str | None, progress: Progress) -> None:
        self._address, self._progress = address or os.environ.get("RAY_ADDRESS") or "local", progress
        self._quiet = ExitStack()

    def __enter__(self) -> Self:
        if find_spec("ray") is None:
            raise RecipeError("ray is not installed", where="--engine ray", remedy="pip install 'twofold[ray]'")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or a warning is printed between results
        import ray  # pyright: ignore[reportMissingImports]  # an extra

        self._ray: Any = ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        here: dict[str, Any] = {"include_dashboard": False} if self._address == "local" else {}
        try:
            ray.init(address=self._address, **quiet, **here)
        except Exception as error:  # Ray also raises plain exceptions if a node does not start in time
            first = str(error).strip().partition("\n")[0]
            remedy = "start one with `ray start --head`, or leave --ray-address out"
            raise ServerError(f"no Ray cluster answers: {first}", where=self._address, remedy=remedy) from None
        self._quiet.enter_context(redirect_stdout(self._quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        resources = ray.cluster_resources()
        self._gpus = min(1.0, resources.get("GPU", 0.0))
        self.size = max(1, int(resources.get("GPU", 0.0) or resources.get("CPU", 1.0)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._quiet:  # without Ray's messages about lost workers
            self._ray.shutdown()

    def run(self, commands: Sequence[Sequence[str]]) -> None:
        """Run every command to its end. Raises the error of the first that fails. If a server does not answer, it is
        raised after all commands have ended."""
        where = "started here" if self._address == "local" else f"at {self._address}"
        self._progress.note(f"{counted(len(commands), 'shard')} over a Ray cluster {where}, {self.size} at a time")
        self._progress.begin(TASK, len(commands))
        running = {self._start(commands[i]): i for i in range(len(commands))}
        lost, silent = dict.fromkeys(range(len(commands)), 0), list[TwofoldError]()
        try:
            while running:
                (done,), _ = self._ray.wait(list(running), num_returns=1)
                index = running.pop(done)
                if (end := self._ended(done)) is None:
                    lost[index] += 1
                    self._go_on(index, len(commands), lost[index])
                    running[self._start(commands[index])] = index
                elif isinstance(end, ServerError):
                    silent.append(end)
                elif isinstance(end, TwofoldError):
                    raise end
                else:
                    self._progress.advance(TASK)
        finally:
            for task in running:
                with suppress(Exception):  # it must not hide the first error
                    self._ray.cancel(task, force=True)
            self._progress.end(TASK)
        if silent:
            raise silent[0]

    def _start(self, command: Sequence[str]) -> Any:
        from twofold import __version__

        options = {"max_retries": 0, "num_cpus": 1, "num_gpus": self._gpus, "scheduling_strategy": "SPREAD"}
        return self._ray.remote(run_command).options(**options).remote(list(command), os.getcwd(), __version__)

    def _ended(self, task: Any) -> TwofoldError | bool | None:
        """True for a command that succeeded, the error of one that failed, None for one that was lost."""
        errors = self._ray.exceptions
        try:
            code, words = self._ray.get(task)
        except errors.RayTaskError as error:
            remedy = "install the same version on all machines, in the same folder"
            return TwofoldError(f"a worker cannot run twofold: {error.cause}", where="--engine ray", remedy=remedy)
        except errors.RayError:
            return None
        if code == 0:
            return True
        if code < 0 or code - 128 in (signal.SIGKILL, signal.SIGTERM):
            return None
        what, _, remedy = words.partition("\n  → ")
        error = (ServerError if code == ServerError.exit_code else TwofoldError)(what, where="", remedy=remedy)
        error.exit_code = code
        return error

    def _go_on(self, index: int, count: int, times: int) -> None:
        where = f"shard {index} of {count}"
        if times >= ATTEMPTS:
            remedy = "check that machine's memory; the same command resumes"
            raise TwofoldError(f"its worker was lost {times} times", where=where, remedy=remedy)
        self._progress.warn(f"{where}: its worker was lost; it resumes from its ledger")


def run_command(arguments: Sequence[str], folder: str, version: str) -> tuple[int, str]:
    """On a worker: `twofold ARGUMENTS` in `folder`. Returns its exit code and its error message."""
    from twofold import __version__

    if __version__ != version:
        raise RuntimeError(f"it has version {__version__}, and the command has version {version}")
    command = [sys.executable, "-m", "twofold", *arguments]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, preexec_fn=ending_with(), errors="replace", **quiet) as process:
        _, words = process.communicate()
    return process.returncode, words.rpartition("error: ")[2].strip()[-LAST:]


def ending_with() -> Callable[[], None]:
    """Called in a new process, it ends that process when this one ends. One that outlives this one would keep files
    locked."""
    mine = os.getpid()

    def end() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PARENT_DIES, int(signal.SIGKILL))
            if os.getppid() != mine:
                os._exit(1)

    return end
