"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import switched_on, unusual
from twofold import analysis


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(analysis) == {"_Tally"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(analysis) == {"ExplainSettings.__init__.max_length": 1024, "explain_model.max_length": 1024}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(analysis) == set()
