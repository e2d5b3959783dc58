"""What this room makes is frozen: nobody on the way changes it."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import switched_on, unusual
from twofold import objectives


def test_nothing_can_be_changed() -> None:
    assert changeable(objectives) == set()


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(objectives) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(objectives) == {"Domain.certain", "Pairs.of.reference", "nll.per_token"}
