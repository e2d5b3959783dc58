"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import changeable
from twofold import algorithms


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(algorithms) == {
        "AheadAlgorithm",
        "AlsoAlgorithm",
        "OfflineAlgorithm",
        "OnlineAlgorithm",
        "PDPOAlgorithm",
        "PolicyGradientAlgorithm",
        "WrappedAlgorithm",
    }
