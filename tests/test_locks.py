"""One process at a time: the lock says whose it is, and dies with it however it dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twofold.errors import BusyError
from twofold.locks import exclusive
from twofold.runs.folder import add_rows


def leave() -> None:
    """Until the parent kills."""
    time.sleep(60)


@contextmanager
def locked_by_a_child(path: Path) -> Iterator[int]:
    ready, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with exclusive(path, "busy"):
            os.write(write, b"x")
            leave()
        os._exit(0)
    os.read(ready, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_second_one_is_refused_by_name_and_changes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with locked_by_a_child(lock) as pid:
        before = lock.read_bytes()
        with pytest.raises(BusyError, match=f"busy: process {pid} on {socket.gethostname()}, since 20") as refused:
            exclusive(lock, "busy", "wait").__enter__()
        assert refused.value.exit_code == 2
        assert refused.value.remedy == "wait"
        assert lock.read_bytes() == before


def test_kill_9_releases_it_and_the_end_removes_it(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with locked_by_a_child(lock):
        pass
    assert lock.exists()
    with exclusive(lock, "busy"):
        assert json.loads(lock.read_bytes())["pid"] == os.getpid()
    assert not lock.exists()


def test_it_counts_within_one_process_too(tmp_path: Path) -> None:
    with exclusive(tmp_path / ".lock", "busy"), pytest.raises(BusyError), exclusive(tmp_path / ".lock", "busy"):
        pass


def test_a_lock_on_a_file_that_its_owner_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner ends between our opening and our locking: we would have a nameless file, and another the real one."""
    lock, real = tmp_path / ".lock", fcntl.flock
    lock.touch()
    calls: list[int] = []

    def flock(file: int, how: int) -> None:
        calls.append(file)
        if len(calls) == 1:
            lock.unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive(lock, "busy"):
        assert len(calls) == 2
        assert json.loads(lock.read_bytes())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("owner", "busy"),
    [
        ({"host": socket.gethostname(), "pid": os.getpid(), "since": "now"}, True),
        ({"host": socket.gethostname(), "pid": 2**22 + 1, "since": "now"}, False),  # above the kernel's limit: no one
        ({"host": "another", "pid": 2**22 + 1, "since": "now"}, True),
        ({}, False),
    ],
    ids=["alive", "dead", "elsewhere", "none"],
)
def test_where_the_file_system_knows_no_locks_the_file_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: dict[str, object], busy: bool
) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = tmp_path / ".lock"
    lock.write_text(json.dumps(owner))
    if busy:
        with pytest.raises(BusyError, match=f"on {owner['host']}"), exclusive(lock, "busy"):
            pass
        assert lock.exists()
    else:
        with exclusive(lock, "busy"):
            pass
        assert not lock.exists()


def test_patience_waits_for_the_other_to_end(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    pid = os.fork()
    if pid == 0:
        with exclusive(lock, "busy"):
            (tmp_path / "begun").touch()
            time.sleep(0.5)
            (tmp_path / "ended").touch()
        os._exit(0)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    with pytest.raises(BusyError), exclusive(lock, "busy", patience=0.1):
        pass
    with exclusive(lock, "busy", patience=30):
        assert (tmp_path / "ended").exists()
    os.waitpid(pid, 0)


def test_figures_of_two_who_measure_one_run_are_all_there(tmp_path: Path) -> None:
    """Read, change, write, eighty times in four processes at once: none may take what another had read."""
    path, children = tmp_path / "frontier.json", list[int]()
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for row in range(20):
                add_rows(path, [{"of": f"{child}-{row}"}], "of")
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert len(json.loads(path.read_text())) == 80
    assert [p.name for p in tmp_path.iterdir()] == ["frontier.json"]


def test_a_lock_that_cannot_be_removed_hides_no_error(tmp_path: Path) -> None:
    """As on a disk that has become read-only: what ended the work is said, and the place is free again."""
    folder = tmp_path / "run"
    folder.mkdir()

    def work() -> None:
        with exclusive(folder / ".lock", "busy"):
            folder.rename(tmp_path / "elsewhere")
            folder.write_text("not a folder")
            raise ValueError("the disk is read-only")

    with pytest.raises(ValueError, match="the disk is read-only"):
        work()
    with exclusive(tmp_path / "elsewhere" / ".lock", "busy"):
        pass
