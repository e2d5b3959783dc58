"""A fault of settings names the option, or the assignment, that was typed."""

from __future__ import annotations

import pytest

from twofold.cli.option_settings import settings_of
from twofold.datagen.build import BuildSettings
from twofold.errors import RecipeError
from twofold.sampling.base import Sampling

OPTIONS = {"judge": ("--judge", "verifier"), "rubric": ("--rubric", None), "gap": ("--gap", 0.0),
           "samples": ("--samples", 4), "threshold": ("--threshold", None), "form": ("--as", "pairs")}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "assignments", "where", "what"),
    [
        ({"rubric": "x"}, [], "--rubric", "a rubric goes with llm and llm-score"),
        ({"gap": -1.0}, [], "--gap", "gap: must be ≥ 0"),
        ({}, ["gap=-1"], "override `gap=-1`", "gap: must be ≥ 0"),
        ({"samples": 0}, [], "--samples", "samples: must be from 1 to 1000000"),
        ({"form": "trees"}, [], "--as", "form: should be 'pairs', 'rankings' or 'labels'"),
        ({"judge": "reward:x", "form": "labels"}, [], "--threshold", "labels by reward need a threshold"),
        ({"judge": "process"}, [], "--judge", "the judge is written process:FOLDER"),
        ({"judge": "truth"}, [], "twofold data build", "`truth` and stronger need a model's own answers"),
        ({}, ["sampling.top_p=2"], "override `sampling.top_p=2`", "sampling.top_p: must be in (0, 1]"),
        ({}, ["colour=1"], "override `colour=1`", "colour: unknown key"),
    ],
)
def test_the_place_is_what_was_typed(changed: dict[str, object], assignments: list[str], where: str, what: str) -> None:
    options = OPTIONS | {name: (OPTIONS[name][0], value) for name, value in changed.items()}
    with pytest.raises(RecipeError) as caught:
        settings_of(BuildSettings, assignments, "twofold data build", options)
    assert caught.value.where == where
    assert what in caught.value.what


def test_values_are_those_of_options_and_then_of_assignments() -> None:
    found = settings_of(BuildSettings, ["samples=9", "sampling.top_p=0.5"], "twofold data build", OPTIONS)
    assert (found.judge, found.samples, found.gap, found.rubric) == ("verifier", 9, 0.0, None)
    assert found.sampling == Sampling(top_p=0.5)
