"""The memory of a step on a GPU, and the unit of the system's figure."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest
import torch

from twofold.training import pace
from twofold.training.pace import peak_memory


@pytest.mark.parametrize(
    ("available", "initialized", "allocated", "want"),
    [(True, True, 77, 77), (True, True, 0, 5120), (True, False, 77, 5120), (False, True, 77, 5120)],
)
def test_a_gpu_that_is_used_counts(
    available: bool, initialized: bool, allocated: int, want: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else main memory: 5 units of 1024 bytes. A run on the CPU beside an idle GPU allocates nothing there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: initialized)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: allocated)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=5))
    monkeypatch.setattr(pace, "MAXRSS_UNIT", 1024)
    assert peak_memory() == want
