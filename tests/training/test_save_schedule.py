"""Checkpoints by steps are taken at their word; by the clock they never take more than a tenth of the time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twofold.training.save_schedule import SaveSchedule


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def saves(schedule: SaveSchedule, clock: Clock, steps: int, step_seconds: float, save_seconds: float) -> Sequence[int]:
    """The steps after which a run saves."""
    saved: list[int] = []
    for step in range(1, steps + 1):
        clock.now += step_seconds
        if schedule.due(step):
            began = clock()
            clock.now += save_seconds
            schedule.took(began)
            saved.append(step)
    return saved


def test_a_short_run_saves_at_its_end_only() -> None:
    clock = Clock()
    assert saves(SaveSchedule(clock=clock), clock, 10, 5.0, 1.0) == []


def test_by_default_every_ten_minutes() -> None:
    clock = Clock()
    assert saves(SaveSchedule(clock=clock), clock, 50, 60.0, 3.0) == [10, 20, 30, 40, 50]


def test_slow_writing_waits_until_it_is_a_tenth_of_the_time() -> None:
    clock = Clock()
    found = saves(SaveSchedule(clock=clock), clock, 300, 60.0, 200.0)
    assert found[:3] == [10, 40, 70]
    assert 200.0 * len(found) / (clock.now - 1000.0) <= 0.1


def test_steps_are_taken_at_their_word() -> None:
    clock = Clock()
    assert saves(SaveSchedule(3, clock=clock), clock, 10, 5000.0, 5000.0) == [3, 6, 9]


def test_minutes_add_to_steps_and_replace_the_default() -> None:
    clock = Clock()
    assert saves(SaveSchedule(5, 2.0, clock), clock, 10, 60.0, 0.0) == [2, 4, 5, 7, 9, 10]
    assert saves(SaveSchedule(None, 1.0, clock), clock, 3, 60.0, 0.0) == [1, 2, 3]


@pytest.mark.parametrize("minutes", [0.0, 0.5])
def test_no_minutes_make_writing_more_than_its_share(minutes: float) -> None:
    clock = Clock()
    found = saves(SaveSchedule(None, minutes, clock), clock, 2000, 1.0, 10.0)
    assert 10.0 * (len(found) - 1) / (clock.now - 1000.0) <= 0.1
    assert len(found) > 10
