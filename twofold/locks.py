"""A lock on a folder that one process at a time may write to. It ends with its process, and names its owner."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twofold.errors import BusyError

_PAUSE = 0.05
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of file systems that do not support locks."""


@contextmanager
def exclusive(
    path: Path, what: str, remedy: str = "wait until it ends, or end it", *, patience: float = 0.0
) -> Iterator[None]:
    """Lock the file `path`, which has no other use, and remove it afterwards. Raises BusyError if another process has
    the lock and does not release it within `patience` seconds.

    The kernel releases the lock when the process ends for any reason. The lock works between machines if the file
    system supports that (NFS, Lustre with `flock`, GPFS, CephFS). If a file system has no locks at all, the existence
    of the file is the lock. Then the lock of an ended process on this machine is replaced, and that of another machine
    must be removed by hand.
    """
    until = time.monotonic() + patience
    while (file := _take(path)) is None:
        if time.monotonic() >= until:
            raise BusyError(f"{what}: {_words(_owner(path))}", where=str(path.parent), remedy=remedy)
        time.sleep(_PAUSE)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, _mine(), 0)
        yield
    finally:
        with suppress(OSError):  # the disk has failed; report the error that ended the work, not this one
            path.unlink(missing_ok=True)
        os.close(file)


def _take(path: Path) -> int | None:
    """The open file, locked, and checked to be the one at the path (its last owner may just have removed it). None if
    another process has the lock."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            locked = _lock(file, path)
            if locked and path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        if not locked:
            return None


def _lock(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return _is_gone(_owner(path))
    return True


def _mine() -> bytes:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}).encode()


def _owner(path: Path) -> dict[str, Any]:
    """The owner's entry in the lock file; empty if there is no owner, or if it has not written yet."""
    try:
        owner = json.loads(path.read_bytes()[:4096])
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _words(owner: dict[str, Any]) -> str:
    if not owner:
        return "it has only just begun"
    return f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the process in the lock file is known to have ended. For another machine, that is never known."""
    if not owner:
        return True
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process, which is running
    return False
