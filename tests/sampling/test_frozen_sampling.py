"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import numbers, switched_on, unusual
from twofold import sampling


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(sampling) == {"Frame", "Graphs"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(sampling) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(sampling) == {"EncodedStart.reading.cached"}


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(sampling) == {
        "ServerSettings.sync_every": 1, "ServerSettings.timeout": 120.0, "ServerSettings.attempts": 6,
        "ServerSettings.pause": 1.0, "ServerSettings.parallel": 32, "Sampling.temperature": 1.0,
        "Sampling.top_p": 1.0, "Sampling.batch_size": 64, "Beams.width": 5, "LogitsProcessor.penalty": 1.0,
    }  # fmt: skip
