"""Signals as real processes get them: a stop in order, also in an evaluation; a second Ctrl-C at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twofold.signals import WATCHED, Stop
from twofold.stopping import Stopped

QUICK = 5.0  # seconds in which a process has to end that would otherwise sleep for 60


class Child:
    """A forked process that does `work` under `Stop` and ends with what a verb would."""

    def __init__(self, folder: Path, work: Callable[[Stop], int]) -> None:
        self.ready = folder / "ready"
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                with Stop() as stop:
                    code = work(stop)
            except Stopped:
                code = 70
            except KeyboardInterrupt:
                code = 71
            finally:
                os._exit(code)

    def send(self, number: int, after: str = "ready") -> None:
        while not self.ready.with_name(after).exists():
            time.sleep(0.01)
        os.kill(self.pid, number)

    def end(self) -> int:
        began = time.monotonic()
        _, status = os.waitpid(self.pid, 0)
        assert time.monotonic() - began < QUICK
        return os.waitstatus_to_exitcode(status)


def wait(folder: Path, name: str, until: Callable[[], bool] = lambda: False) -> None:
    (folder / name).touch()
    for _ in range(6000):
        if until():
            return
        time.sleep(0.01)


@pytest.mark.parametrize("number", WATCHED)
def test_work_that_can_be_dropped_ends_at_once(tmp_path: Path, number: int) -> None:
    def work(stop: Stop) -> int:
        with stop.droppable():
            wait(tmp_path, "ready")
        return 0

    child = Child(tmp_path, work)
    child.send(number)
    assert child.end() == 70


@pytest.mark.parametrize("number", WATCHED)
def test_a_step_goes_on_to_its_end(tmp_path: Path, number: int) -> None:
    def work(stop: Stop) -> int:
        with stop.droppable(), stop.undroppable():
            wait(tmp_path, "ready", stop)
        return stop.exit_code

    child = Child(tmp_path, work)
    child.send(number)
    assert child.end() == 128 + number


def test_what_schedulers_send_after_the_first_changes_nothing_and_a_second_ctrl_c_leaves_at_once(
    tmp_path: Path,
) -> None:
    def work(stop: Stop) -> int:
        wait(tmp_path, "ready", stop)
        wait(tmp_path, "asked")
        return 0

    child = Child(tmp_path, work)
    child.send(signal.SIGUSR1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        child.send(number, "asked")
        time.sleep(0.1)
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
    child.send(signal.SIGINT, "asked")
    assert child.end() == 71


def test_a_third_waits_for_no_one(tmp_path: Path) -> None:
    def work(stop: Stop) -> int:
        try:
            wait(tmp_path, "ready", stop)
            wait(tmp_path, "asked")
        except KeyboardInterrupt:
            wait(tmp_path, "cleaning")
        return 0

    child = Child(tmp_path, work)
    for after in ("ready", "asked", "cleaning"):
        child.send(signal.SIGINT, after)
    assert child.end() == 130


@pytest.fixture
def ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def test_nohup_is_respected(ignored: None) -> None:
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_request_from_before_drops_what_begins_now() -> None:
    stop = Stop()
    stop.request()
    with pytest.raises(Stopped), stop.droppable():
        pytest.fail("it began")
