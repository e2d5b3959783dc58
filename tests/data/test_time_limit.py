"""Work that is stopped when its time is over: by the processor's clock, whatever it catches, and what watches it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from twofold.data import time_limit
from twofold.data.time_limit import within


def endless() -> int:
    return sum(i for i in iter(int, 1))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A watch of its own, that looks often and ends soon."""
    own = time_limit._Watch()
    monkeypatch.setattr(time_limit, "_watch", own)
    monkeypatch.setattr(time_limit, "_PAUSE", 0.01)
    monkeypatch.setattr(time_limit, "_IDLE", 3)
    yield own
    if own.thread is not None:
        own.thread.join(5)


def test_one_thread_watches_while_there_is_work(watch: Any) -> None:
    seen = within(60, lambda: (watch.thread.name, watch.thread.daemon, [*watch.calls]))
    assert seen == ("time limit", True, [threading.get_ident()])
    assert watch.calls == {}
    thread = watch.thread
    assert within(60, lambda: watch.thread is thread or watch.thread is None)
    thread.join(5)
    assert not thread.is_alive()
    assert watch.thread is None
    assert within(60, lambda: watch.thread.is_alive()), "another one"


def test_what_takes_longer_is_stopped_and_the_next_is_not(watch: Any) -> None:
    with pytest.raises(TimeoutError) as error:
        within(0.05, endless)
    assert str(error.value) == "took more than 0.05 s"
    assert error.value.__suppress_context__
    assert watch.calls == {}
    assert within(60, lambda: sum(range(100_000))) == 4_999_950_000


def test_an_error_of_the_work_is_its_own(watch: Any) -> None:
    with pytest.raises(KeyError, match="mine"):
        within(60, lambda: {}["mine"])
    assert watch.calls == {}


@pytest.mark.usefixtures("watch")
def test_work_that_catches_errors_is_stopped_all_the_same() -> None:
    def stubborn() -> None:
        while True:
            try:
                endless()
            except Exception:  # the end of its time is none
                continue

    with pytest.raises(TimeoutError):
        within(0.05, stubborn)


@pytest.mark.usefixtures("watch")
def test_waiting_takes_no_time_of_the_processor() -> None:
    if not hasattr(time, "pthread_getcpuclockid"):
        pytest.skip("this platform counts the time of the wall")
    assert within(0.05, lambda: time.sleep(0.2)) is None


def test_without_a_clock_of_threads_the_wall_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(thread: int) -> int:
        raise OSError(thread)

    monkeypatch.setattr(time, "monotonic", lambda: 7.0)
    monkeypatch.setattr(time, "pthread_getcpuclockid", gone, raising=False)
    assert time_limit._seconds(threading.get_ident()) == 7.0
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    assert time_limit._seconds(threading.get_ident()) == 7.0


def test_what_was_stopped_is_not_stopped_again_behind_its_end(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception that has not come yet is taken back; where none was raised, there is none to take back."""
    raised = list[tuple[int, object]]()
    monkeypatch.setattr(time_limit, "_raise_in", lambda thread, error: raised.append((thread, error)))
    watch.end(time_limit._Call(7, 0.0))
    assert raised == []
    watch.end(time_limit._Call(7, 0.0, stopped=True))
    assert raised == [(7, None)]


def test_a_call_that_is_stopped_is_stopped_once(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raised, now = list[tuple[int, object]](), iter([4.0, 5.0, 6.0])
    monkeypatch.setattr(time_limit, "_raise_in", lambda thread, error: raised.append((thread, error)))
    monkeypatch.setattr(time_limit, "_seconds", lambda _: next(now, 9.0))
    watch.calls[7] = time_limit._Call(7, 5.0)
    pauses = iter(range(5))

    def sleep(seconds: float) -> None:
        assert seconds == 0.01
        if next(pauses, None) is None:
            watch.calls.clear()

    monkeypatch.setattr(time, "sleep", sleep)
    watch._run()
    assert raised == [(7, time_limit._Overtime)]
    assert next(now, None) is None, "5.0 s are no more than 5.0 s"


def test_a_forked_process_has_a_watch_of_its_own(watch: Any) -> None:
    within(60, int)
    watch.lock.acquire()
    thread = watch.thread
    time_limit._renewed()
    assert (watch.lock.locked(), watch.thread, watch.calls) == (False, None, {})
    assert thread is not None
