"""A verb in several processes of this machine, through torchrun's own agent: one message, one exit code."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from twofold.cli.terminal import errors

LAUNCHER = "TWOFOLD_LAUNCHER"
"""Set where this module tells of processes that are lost, so that the others need not."""
_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT")
_TO_SAVE = 600  # seconds that processes have to end their step and save
_PARENT_DIES = 1  # PR_SET_PDEATHSIG, prctl(2)
_AGAIN = "the same command goes on from the last checkpoint"


def launch(processes: int, arguments: Sequence[str], restarts: int = 0) -> int:
    """Run `twofold ARGUMENTS` in so many processes and wait; its exit code, and for one that was killed a message.
    Where one is killed, all are started again, `restarts` times at most; what ends by itself would end so again."""
    _prepare(processes)
    for restart in range(restarts + 1):
        codes = _run(processes, arguments)
        if isinstance(codes, int):
            return codes
        killed = {rank: -code for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}
        if not killed:  # what ended by itself has told why; torchrun sends SIGTERM to those that are left
            return max(code if code > 0 else 0 for code in codes.values()) or 128 + signal.SIGTERM
        rank, number = min(killed.items())
        lost = f"process {rank} of {processes} was killed ({_name(number)})"
        if restart == restarts:
            errors().print(f"error: {lost}; the others were ended\n  → {_AGAIN}")
            return 128 + number
        errors().print(f"{lost}; all are started again ({restart + 1} of {restarts})")
    raise AssertionError("the last one returns")


def _prepare(processes: int) -> None:
    import logging

    import torch.distributed.launcher.api  # noqa: F401  # whose loggers are made now

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # each has a level of its own; what matters is said here
    os.environ[LAUNCHER] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def _run(processes: int, arguments: Sequence[str]) -> int | dict[int, int]:
    """One start of all processes: the exit code, or by rank those of processes that failed."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    heard = [name for name in _FORWARDED if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN]
    late: dict[str, Any] = (
        {"shutdown_timeout": _TO_SAVE} if "shutdown_timeout" in {f.name for f in fields(LaunchConfig)} else {}
    )
    with tempfile.TemporaryDirectory(prefix="twofold-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,  # the agent would start again what has ended with a message, too
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle=",".join(heard),
            **late,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "twofold", *arguments)
        except ChildFailedError as error:
            return {rank: failure.exitcode for rank, failure in error.failures.items()}
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_with_launcher() -> None:
    """Let this process stop in order where its launcher is killed: it would go on alone, and hold the run's folder."""
    if launched_already(os.environ) and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIES, int(signal.SIGTERM))


def launched_already(environment: Mapping[str, Any]) -> bool:
    """Whether torchrun has started this process."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment
