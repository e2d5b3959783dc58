"""What nobody names is as everywhere: intervals of 95%, and the seed 0."""

from __future__ import annotations

import inspect
from operator import attrgetter

import pytest

from support.usual_defaults import switched_on, unusual
from twofold import statistics
from twofold.statistics import power as power


def test_what_nobody_names_is_as_everywhere() -> None:
    """Of a test's power `level` is its error of the first kind."""
    assert unusual(statistics) == {"prompts_for.level": 0.05, "difference_of.level": 0.05}


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("bootstrap_ratio", "resamples", 2000),
        ("paired_bootstrap", "resamples", 2000),
        ("paired_bootstrap_p", "resamples", 10_000),
        ("sign_flips", "flips", 20_000),
        ("power.prompts_for", "power", 0.8),
        ("power.difference_of", "power", 0.8),
        ("krippendorffs_alpha", "distance", "nominal"),
    ],
)
def test_defaults_of_what_is_drawn(name: str, parameter: str, value: object) -> None:
    assert inspect.signature(attrgetter(name)(statistics)).parameters[parameter].default == value


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(statistics) == set()
