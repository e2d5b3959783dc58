"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from dataclasses import fields

from support.frozen import changeable
from support.usual_defaults import switched_on, unusual
from twofold import algorithms
from twofold.algorithms.online import OnlineAlgorithm
from twofold.algorithms.pdpo import PDPOAlgorithm
from twofold.algorithms.policy_gradient import PolicyGradientAlgorithm


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


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(algorithms) == {"Online.__init__.samples": 2, "PolicyGradient.__init__.samples": 4}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(algorithms) == {"PDPO.drop_truncated"}


def test_an_algorithm_takes_its_parts_by_name() -> None:
    for made in (OnlineAlgorithm, PDPOAlgorithm, PolicyGradientAlgorithm):
        assert all(field.kw_only for field in fields(made)), made
