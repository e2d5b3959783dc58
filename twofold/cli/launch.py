"""A verb in several processes on one or several hosts, with torchrun's agent: one message, one exit code."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from twofold.cli.terminal import errors
from twofold.errors import LostProcessError, RecipeError
from twofold.hosts import ARRIVAL, LAUNCHER, address_towards, give_up_after, is_free_here

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT")
_TO_SAVE = 600  # seconds for processes to end their step and save
_PARENT_DIES = 1  # PR_SET_PDEATHSIG, prctl(2)
_PORTS = 2**16
_GLANCE, _LOOK = 1.0, 5.0  # seconds
_AGAIN_ON_ALL = "the same command on every host resumes from the last checkpoint"
_AGAIN = "the same command resumes from the last checkpoint"


@dataclass(frozen=True)
class Meeting:
    """Where the launchers of several hosts meet: a port of one of them, with the same name on all hosts."""

    host: str
    port: int
    hosts: int
    timeout: float
    """Seconds that the host may be unreachable."""

    @classmethod
    def of(cls, hosts: int, rendezvous: str | None, timeout: float) -> Meeting | None:
        """None for one host. Raises RecipeError for options that do not fit."""
        if hosts == 1 and rendezvous is None:
            return None
        if hosts == 1 or rendezvous is None:
            remedy = "give both: --nodes N --rendezvous HOST:PORT, HOST one of the N, alike on all of them"
            missing, there = ("--rendezvous", "--nodes") if rendezvous is None else ("--nodes", "--rendezvous")
            raise RecipeError(f"{there} needs {missing}", where=there, remedy=remedy)
        host, _, port = rendezvous.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < _PORTS:
            raise RecipeError(f"{rendezvous!r} is not HOST:PORT", where="--rendezvous", remedy="write host-a:29400")
        return cls(host.strip("[]"), int(port), hosts, timeout)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def config(self) -> dict[str, Any]:
        """The settings of torchrun's agent. Raises LostProcessError if the first host does not start."""
        here = is_free_here(self.host, self.port)
        if not here:
            self._await()
        return {
            "min_nodes": self.hosts,
            "max_nodes": self.hosts,
            "rdzv_endpoint": f"[{self.host}]:{self.port}" if ":" in self.host else str(self),
            "rdzv_configs": {
                "is_host": here,
                "join_timeout": int(ARRIVAL.total_seconds()),
                "read_timeout": int(self.timeout),
            },
            "local_addr": self.host if here else address_towards(self.host, self.port),
            "run_id": "twofold",
        }

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Make the connections of torchrun's agent fail if another host is unreachable. Otherwise it waits forever."""
        over = Event()

        def watch() -> None:
            while not over.wait(_LOOK):  # the agent may open connections at any time
                give_up_after(self.timeout)

        Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _await(self) -> None:
        until = time.monotonic() + ARRIVAL.total_seconds()
        while time.monotonic() < until:
            with suppress(OSError):
                socket.create_connection((self.host, self.port), timeout=_GLANCE).close()
                return
            time.sleep(_GLANCE)
        remedy = f"start the same command on {self.host}; look at names, addresses and firewalls"
        raise LostProcessError(f"nobody has answered at {self} within {ARRIVAL}", where="--rendezvous", remedy=remedy)


def launch(processes: int, arguments: Sequence[str], restarts: int = 0, meeting: Meeting | None = None) -> int:
    """Run `twofold ARGUMENTS` in this number of processes on this host and wait. Returns the exit code, and prints a
    message if a process was lost. On a single host, if one is killed, all are started again, at most `restarts` times.
    A process that ends by itself is not started again, because it would fail again. Raises LostProcessError if other
    hosts do not start, or if the meeting host is lost."""
    _prepare(processes)
    restarts = 0 if meeting else restarts
    for restart in range(restarts + 1):
        failures = _run(processes, arguments, meeting)
        if isinstance(failures, int):
            return failures
        codes = {rank: failure.exitcode for rank, failure in failures.items()}
        killed = {rank: -code for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}
        if not killed:  # torchrun sends SIGTERM to the others
            return _by_themselves(failures)
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
        logging.getLogger(name).setLevel(logging.CRITICAL)  # each has its own level; twofold prints the messages
    os.environ[LAUNCHER] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def _run(processes: int, arguments: Sequence[str], meeting: Meeting | None) -> int | Mapping[int, ProcessFailure]:
    """One start of all processes. Returns the exit code, or the failures of processes by rank."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    with tempfile.TemporaryDirectory(prefix="twofold-") as logs:
        config = _config(processes, logs, meeting)
        try:
            with meeting.watched() if meeting else nullcontext():
                elastic_launch(config, sys.executable)("-m", "twofold", *arguments)
        except ChildFailedError as error:
            return error.failures
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
        except Exception as error:
            if meeting is None:
                raise
            raise _parted(error, meeting) from error
    return 0


def _config(processes: int, logs: str, meeting: Meeting | None) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    heard = [name for name in _FORWARDED if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN]
    alone = {"min_nodes": 1, "max_nodes": 1, "rdzv_endpoint": "localhost:0", "run_id": uuid.uuid4().hex}
    late: dict[str, Any] = (
        {"shutdown_timeout": _TO_SAVE} if "shutdown_timeout" in {f.name for f in fields(LaunchConfig)} else {}
    )
    return LaunchConfig(
        nproc_per_node=processes,
        rdzv_backend="c10d",
        max_restarts=0,  # the agent would also restart processes that ended with a message
        logs_specs=DefaultLogsSpecs(log_dir=logs),
        signals_to_handle=",".join(heard),
        **late,
        **(alone if meeting is None else meeting.config()),
    )


def _parted(error: Exception, meeting: Meeting) -> LostProcessError:
    """The meaning of an error of torchrun's agent."""
    if type(error).__name__ == "RendezvousTimeoutError":
        what = f"{meeting.hosts} hosts have not met at {meeting} within {ARRIVAL}"
        return LostProcessError(what, where="", remedy="start the same command on each of them")
    what = f"{meeting.host}, where all hosts meet, cannot be reached or has ended"
    return LostProcessError(what, where="", remedy=f"look at its messages; {_AGAIN_ON_ALL}")


def leave_word(error: LostProcessError) -> None:
    """Leave the message to the launcher of this process, which can see whether one of its processes was killed."""
    with suppress(KeyError, OSError):
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": str(error)}), "utf-8")


def _by_themselves(failures: Mapping[int, ProcessFailure]) -> int:
    """The exit code if no process of this host was killed. The processes have printed their error. A lost host is
    reported here."""
    own = {failure.exitcode for failure in failures.values() if failure.exitcode > 0}
    if own == {LostProcessError.exit_code}:
        words = next(f.message for f in failures.values() if f.exitcode > 0)
        errors().print(f"error: {words}", soft_wrap=True)
    return max(own - {LostProcessError.exit_code}, default=max(own, default=128 + signal.SIGTERM))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_with_launcher() -> None:
    """Make this process save and stop if its launcher is killed. Otherwise it would continue and lock the folder."""
    if launched_already(os.environ) and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIES, int(signal.SIGTERM))


def launched_already(environment: Mapping[str, Any]) -> bool:
    """Whether torchrun has started this process."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment
