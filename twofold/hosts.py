"""The machines of a run: their addresses, and how a machine that cannot be reached is detected."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from twofold.errors import LostProcessError

LAUNCHER = "TWOFOLD_LAUNCHER"
"""Set if `twofold` has started this process. Then the launcher reports lost processes, and the processes do not."""
ARRIVAL = timedelta(minutes=10)
"""Time within which all processes of a run must start."""
_GLANCE = 0.1  # seconds
_PARTING = 3.0  # seconds that a process waits for others that leave too
_MOMENT = timedelta(seconds=10)  # for one process to print its error while the others wait
_PROBES = 5  # probes to a silent machine, before its connection is closed
_GET_ADDRESS = 0x8915  # SIOCGIFADDR, netdevice(7)
_OPEN_FILES = Path("/proc/self/fd")


def address_towards(host: str, port: int) -> str | None:
    """The address from which this machine sends to `host`, if other machines can use it. None if there is no route, or
    if `host` is this machine under an address that only it can use."""
    with suppress(OSError):
        kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as way:
            way.connect(place)  # sends nothing
            address = way.getsockname()[0]
        return None if address.startswith("127.") or address == "::1" else address
    return None


def interface_of(address: str) -> str | None:
    """The network interface with this IPv4 address."""
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                reply = fcntl.ioctl(asked, _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(reply[20:24]) == address:
                    return name
    return None


def name_interface() -> None:
    """Make Gloo use the network interface that reaches the first host. By default it resolves this host's own name,
    which is often a loopback address."""
    address = address_towards(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if address and (name := interface_of(address)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def failed_key() -> str:
    """The key in the shared store under which processes find that one of them has failed."""
    return f"twofold/failed/{attempt()}"


def speaker_key() -> str:
    """The key of the first process to fail: of all, or per launcher, because each launcher has its own output."""
    return f"{failed_key()}/{os.environ.get('GROUP_RANK', 0) if LAUNCHER in os.environ else 'all'}"


def await_all(store: Any, rank: int, size: int) -> None:
    """Wait until all processes have started. Raises LostProcessError if one has failed before, or does not start."""
    places = {each: f"twofold/here/{attempt()}/{each}" for each in range(size)}
    store.set(places[rank], "")
    until = time.monotonic() + ARRIVAL.total_seconds()
    while missing := [each for each, place in places.items() if not store.check([place])]:
        if store.check([failed_key()]):
            raise LostProcessError("another process of this run has ended", where="", remedy="look at its message")
        if time.monotonic() > until:
            what = (
                f"{len(missing)} of {size} processes have not started within {ARRIVAL}, the first of them {missing[0]}"
            )
            raise LostProcessError(what, where="", remedy="look at the messages of its host")
        time.sleep(_GLANCE)


def await_leaving(store: Any, rank: int, size: int) -> None:
    """Give all processes a moment to leave too. What one of them has read another may not have, and a connection that
    closes loses it."""
    places = [f"twofold/left/{each}" for each in range(size)]
    until = time.monotonic() + _PARTING
    with suppress(RuntimeError):  # the shared store is lost
        store.set(places[rank], "")
        while not store.check(places) and time.monotonic() < until:
            time.sleep(_GLANCE)


def attempt() -> str:
    """How often the launcher has started the processes again."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def is_free_here(host: str, port: int) -> bool:
    """Whether `host` is this machine, and no process listens at `port`."""
    try:
        socket.create_server(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][:2]).close()
    except OSError:
        return False
    return True


def give_up_after(seconds: float) -> None:
    """Make the open connections of this process fail if the other machine does not respond for this time, because its
    power or its network has failed. A machine that computes for long still responds, because its kernel does."""
    if sys.platform != "linux" or not _OPEN_FILES.is_dir():
        return
    pause = max(1, round(seconds / _PROBES))
    for entry in os.listdir(_OPEN_FILES):
        with suppress(OSError):  # a connection that was closed in the meantime
            if os.readlink(_OPEN_FILES / entry).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(entry))) as line:
                    _probe(line, pause, seconds)


def _probe(line: socket.socket, pause: int, seconds: float) -> None:
    if line.type == socket.SOCK_STREAM and line.family in (socket.AF_INET, socket.AF_INET6):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, pause)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES - 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))


@contextmanager
def one_speaks() -> Iterator[bool]:
    """Whether this process is the first to get here, of all that a launcher started. The others wait until it has left,
    because otherwise the launcher could end it before it has printed its error."""
    from torch.distributed import TCPStore  # type: ignore[reportPrivateImportUsage]

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(*place, None, False, _MOMENT, False)  # type: ignore[reportPrivateImportUsage]
        store.set(failed_key(), "")
        key = speaker_key()
        first = store.add(key, 1) == 1
    except (KeyError, ValueError, RuntimeError):
        yield os.environ.get("LOCAL_RANK", "0") == "0"  # the shared store is lost, so one process per host reports
        return
    try:
        yield first
    finally:
        with suppress(RuntimeError):
            if first:
                store.set(f"{key}/spoken", "1")
            else:
                store.wait([f"{key}/spoken"], _MOMENT)


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Inside it, SIGTERM ends the process. A process that waits for a lost one could not react in any other way."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
