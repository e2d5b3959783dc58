"""A lock on a place that one process at a time writes to: it dies with its process, and says whose it is."""

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
"""What file systems answer that know no locks."""


@contextmanager
def exclusive(
    path: Path, what: str, remedy: str = "wait until it ends, or end it", *, patience: float = 0.0
) -> Iterator[None]:
    """Lock the file `path`, made for this alone, and remove it afterwards. Raises BusyError where another has it, and
    does not let go within `patience` seconds.

    The kernel drops the lock when the process ends, however it ends. It holds between machines where the file system
    passes locks on (NFS, Lustre with `flock`, GPFS, CephFS). Where a file system knows no locks at all, the file itself
    is the lock: of a dead process on this machine it is taken over, of another machine's it has to be removed by hand.
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
        with suppress(OSError):  # of a disk that takes nothing any more; what ended the work is to be heard, not this
            path.unlink(missing_ok=True)
        os.close(file)


def _take(path: Path) -> int | None:
    """The open file, locked, and still the one that has the name (its last owner may just have removed it); None where
    another has it."""
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
    """What the lock's owner wrote of itself; empty where there is none, or it has not written yet."""
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
    """Whether the process that left its name is known to have ended; one of another machine never is."""
    if not owner:
        return True
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's, and alive
    return False
