"""What this room makes is frozen: nobody on the way changes it."""

from __future__ import annotations

from support.frozen import changeable, slotted
from twofold import evaluation


def test_nothing_can_be_changed() -> None:
    assert changeable(evaluation) == set()


def test_what_problems_have_one_of_each_takes_no_further_attributes() -> None:
    assert slotted(evaluation) == {
        "Answered",
        "Difference",
        "Game",
        "Likely",
        "Match",
        "Preset",
        "Row",
        "Sampled",
        "Scored",
        "Scores",
    }
