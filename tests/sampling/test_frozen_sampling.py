"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

import torch

from support.frozen import changeable
from support.usual_defaults import constants, numbers, switched_on, unusual
from twofold import sampling


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(sampling) == {"Frame", "Graphs"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(sampling) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(sampling) == {"EncodedStart.reading.cached"}


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(sampling) == {
        "ServerSettings.sync_every": 1, "ServerSettings.timeout": 120.0, "ServerSettings.attempts": 6,
        "ServerSettings.pause": 1.0, "ServerSettings.parallel": 32, "Sampling.temperature": 1.0,
        "Sampling.top_p": 1.0, "Sampling.batch_size": 64, "Beams.width": 5, "LogitsProcessor.penalty": 1.0,
    }  # fmt: skip


def test_constants_are_these() -> None:
    assert constants(sampling) == {
        "answers.AT_ONCE": 256, "answers.CHUNK": 64, "answers.MOST_ATTEMPTS": 64, "answers.STEP": 0,
        "base.MOST_TOKENS": 1_000_000, "base.TRUNCATION": 2.0, "cache.DROP": 8, "dialects.MOST_STOPS": 4,
        "divergence.HELD": 16_777_216, "local.AHEAD": 8, "local.STRIDE": 8, "logits_processor.BLOCK": 128,
        "recompute.AT_ONCE": 2048, "recompute._NEW": 9, "recompute._PROMPTS": (10, 7, 3),
        "recompute._TOLERANCE": {torch.float64: 1e-6, torch.float32: 1e-2}, "shared_prompt.PADDING": 64,
        "shared_prompt._TOLERANCE": {torch.float64: 1e-6, torch.float32: 1e-3}, "static.SMALLEST": 8, "static.WARM": 2,
    }  # fmt: skip
