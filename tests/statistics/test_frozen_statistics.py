"""Defaults and constants of the statistics, by name."""

from __future__ import annotations

from support.usual_defaults import constants, numbers, switched_on, unusual
from twofold import statistics


def test_constants_are_these() -> None:
    assert constants(statistics) == {
        "bootstrap.FEW": 8, "power.EXACT": 20000, "power.MOST": 1000000000, "raters.RESAMPLES": 2000,
    }  # fmt: skip


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(statistics) == {"prompts_for.level": 0.05, "difference_of.level": 0.05}
    assert switched_on(statistics) == set()
    assert numbers(statistics) == {
        "bootstrap_ratio.resamples": 2000, "paired_bootstrap.resamples": 2000, "paired_bootstrap_p.resamples": 10000,
        "sign_flips.flips": 20000, "prompts_for.power": 0.8, "difference_of.power": 0.8,
    }  # fmt: skip
