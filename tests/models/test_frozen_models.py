"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import unusual
from twofold import models


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(models) == {"Bucket", "Layout", "Pack", "Route", "Segment"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(models) == {}
