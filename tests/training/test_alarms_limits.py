"""Alarms at their limits: samples of no words, repetition at the start, and figures that are not there."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.training.alarms import LENGTH, REPETITION, AlarmSettings, alarms, repetition


def heard(first: tuple[float, float], later: tuple[float, float], **limits: Any) -> bool:
    state: dict[str, Any] = {}
    (one, two) = (
        alarms(step, dict(zip((REPETITION, LENGTH), figures, strict=True)), AlarmSettings(**limits), state)
        for step, figures in enumerate((first, later))
    )
    assert one == []
    return bool(two)


@pytest.mark.parametrize(
    ("first", "later", "warned"),
    [(0, 2, False), (0, 3, True), (0.5, 2, False), (3, 0, True), (2, 0, False), (2, 1, False), (4, 8, False),
     (4, 9, True)],
)  # fmt: skip
def test_fewer_than_one_word_count_as_one(first: float, later: float, warned: bool) -> None:
    assert heard((0.0, first), (0.0, later)) == warned


@pytest.mark.parametrize(
    ("first", "later", "warned"), [(0.0, 0.3, False), (0.0, 0.31, True), (0.5, 0.59, False), (0.5, 0.61, True)]
)
def test_repetition_is_a_tenth_more_than_at_the_start(first: float, later: float, warned: bool) -> None:
    assert heard((first, 5), (later, 5)) == warned


def test_without_figures_there_is_no_state() -> None:
    state: dict[str, Any] = {}
    assert alarms(0, {"loss": 1.0}, AlarmSettings(), state) == []
    assert state == {}


def test_a_text_of_four_words_has_one_gram() -> None:
    assert (repetition("a a a a"), repetition("a a a a a"), repetition("a b a b a c")) == (0.0, 0.5, 0.0)
