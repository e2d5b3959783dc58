"""How many steps decoding takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from support import tiny
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(("stops", "steps"), [((), 6), (range(1000), 1)])
def test_on_a_processor_decoding_ends_with_the_last_token(samples: int, stops: Sequence[int], steps: int) -> None:
    """The first token comes from the pass over the prompts; a step that finds every completion ended counts."""
    no_text: Any = None
    sampler = LocalSampler(tiny.llama(), no_text, stops, Sampling(max_new_tokens=6))
    assert sampler.steps == 0
    for times in (1, 2):
        sampler.sample([torch.arange(3), torch.arange(5)], samples=samples, seed=(0, times))
        assert sampler.steps == steps * times
