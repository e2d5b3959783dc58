"""What this room makes is frozen: nobody on the way changes it."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import unusual
from twofold import objectives


def test_nothing_can_be_changed() -> None:
    assert changeable(objectives) == set()


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(objectives) == {}
