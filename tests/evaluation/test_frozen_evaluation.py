"""What this room makes is frozen: nobody on the way changes it."""

from __future__ import annotations

from support.frozen import changeable, slotted
from support.usual_defaults import numbers, switched_on, unusual
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


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(evaluation, resamples=1000) == {
        "AlpacaEvalSettings.__init__.max_new_tokens": 2048, "alpaca_eval.max_new_tokens": 2048,
        "ArenaHardSettings.__init__.max_new_tokens": 4096, "arena_hard.max_new_tokens": 4096,
        "IfevalSettings.__init__.max_new_tokens": 1280, "instruction_following.max_new_tokens": 1280,
        "MathSettings.__init__.max_new_tokens": 1024, "MathPassAtKSettings.__init__.max_new_tokens": 1024,
        "math_accuracy.max_new_tokens": 1024,
        "MtBenchSettings.__init__.max_new_tokens": 1024, "mt_bench.max_new_tokens": 1024,
        "Preset.__init__.split": "test",
    }  # fmt: skip


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(evaluation) == set()


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(evaluation) == {
        "bradley_terry.resamples": 1000, "length_controlled.resamples": 1000, "areas.resamples": 1000,
        "LengthControl.resamples": 1000, "StyleControl.resamples": 1000, "fit.state": 123,
        "MathPassAtKSettings.temperature": 1.0,
        "PassAtKSettings.temperature": 1.0, "pass_at_k.temperature": 1.0, "WinRateInTraining.limit": 32,
        "Scored.weight": 1.0, "Scored.probability": 1.0, "Comparison.weight": 1.0, "Comparison.probability": 1.0,
    }  # fmt: skip
