"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import switched_on, unusual
from twofold import models


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(models) == {"Bucket", "Layout", "Pack", "Route", "Segment"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(models) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(models) == {
        "Findings.causal",
        "PackedModel.train.mode",
        "bfloat16_products.narrow",
        "check_folder.weights",
        "save_policy.sealed",
    }
