"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

import pytest

from support.frozen import changeable
from twofold import analysis
from twofold.analysis.explain_model import ExplainSettings


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(analysis) == {"_Tally"}


def test_settings_are_named() -> None:
    with pytest.raises(TypeError, match="positional"):
        ExplainSettings("reference")  # type: ignore[misc]  # as nobody may
