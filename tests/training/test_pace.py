"""The figures of a step in timings.jsonl, by value."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from support import tiny
from twofold.objectives import DPO
from twofold.training.pace import pace, peak_memory
from twofold.training.step import Part, Round


def test_a_steps_speed() -> None:
    """A prompt counts once, and each completion without its last token: 5 + 1 + 2 and 4 + 0 + 5 tokens."""
    groups = tiny.groups((5, 2, 3), (4, 1, 6))
    made = Round(0, [Part(groups, DPO()), Part(groups[:1], DPO())])
    found = pace(made, {"loss": 1.0}, 0.5, 3.00004)
    memory = found.pop("memory_gib")
    assert found == {"seconds": 3.0, "tokens": 25, "tokens_per_second": 8.3}
    assert abs(memory - peak_memory() / 2**30) < 0.01
    with_drafts = pace(made, {"drafts": 4.0}, 0.6, 0.0)
    assert with_drafts["drafts_per_second"] == 6.6667
    assert with_drafts["tokens_per_second"] == 25e9
    assert pace(made, {"drafts": 4.0}, 0.0, 1.0)["drafts_per_second"] == 4e9


def test_memory_is_rounded_to_thousandths_of_a_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.training.pace.peak_memory", lambda: 12346 * 2**30 // 10000)
    assert pace(Round(0, []), {}, 0.5, 2.0) == {
        "seconds": 2.0, "tokens": 0, "tokens_per_second": 0.0, "memory_gib": 1.235,
    }  # fmt: skip
    assert pace(Round(0, []), {}, 0.5, 0.123456)["seconds"] == 0.1235


def test_peak_memory_is_in_bytes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        assert before <= peak_memory() < 2 * before
