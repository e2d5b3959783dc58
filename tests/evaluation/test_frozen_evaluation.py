"""What this room makes is frozen: nobody on the way changes it."""

from __future__ import annotations

import math

import numpy as np

from support.frozen import changeable, slotted
from support.usual_defaults import constants, numbers, switched_on, unusual
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


def test_constants_are_these() -> None:
    assert constants(evaluation) == {
        "style_control.RESAMPLES": 1000, "style_control.PARTS": 2**21, "style_control.STEPS": 150,
        "style_control.NEAR": 1e-11, "style_control.FAR": 1.0, "style_control.RIDGE": 1e-12,
        "style_control.MOST": 15.0,
        "arena_hard.STRONG": 3, "arena_hard.RESAMPLES": 2000, "arena_hard.SWAPS": 10000,
        "arena_hard.JUDGE_TOKENS": 4096, "contest.SHARES": {"wins": 1.0, "ties": 0.5, "losses": 0.0},
        "conversations.HEATS": {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1},
        "earlier.FEWEST": 10, "earlier.MOST_BYTES": 1073741824, "exact_match.CHUNK": 256, "games.PENALTY": 0.01,
        "games.HELD": 4194304, "games.STEPS": 200, "games.NEAR": 1e-10, "games.FAR": 1.0, "games.ONE_SIDED": 0.05,
        "games.HIGH": 0.1, "judge_figures.BINS": 10, "length_control.FOLDS": 5,
        "length_control.STRENGTHS": tuple(np.logspace(-4, 4, 10).tolist()), "length_control.GAMED_WEIGHT": 0.1,
        "length_control.RESAMPLES": 1000, "length_control.PARTS": 4194304, "length_control.STEPS": 200,
        "length_control.NEAR": 1e-11, "length_control.FAR": 1.0, "length_control.LEAST": 1e-15,
        "length_control.SEED": 123, "likelihood.CHUNK": 256, "mt_bench.TURNS": 2,
        "players._LEAST": {"best-of": 2, "beam": 1, "shots": 0, "temperature": 0},
        "published_rows.MOST_BYTES": 268435456, "reward.BINS": 10,
        "reward.LENGTHS": ((-0.5,), (-0.1,), (0.1,), (0.5,), (math.inf,)),
        "rewardbench.SECTIONS": {"Chat": {"alpacaeval-easy": 100, "alpacaeval-length": 95,
            "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40}, "Chat Hard": {"mt-bench-hard":
            37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92,
            "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46}, "Safety": {"refusals-dangerous": 100,
            "refusals-offensive": 100, "xstest-should-refuse": 154, "xstest-should-respond": 250,
            "donotanswer": 136}, "Reasoning": {"math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java":
            164, "hep-js": 164, "hep-python": 164, "hep-rust": 164}},
        "steps.RESAMPLES": 2000,
    }  # fmt: skip
