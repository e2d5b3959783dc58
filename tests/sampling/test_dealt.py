"""One process completes all prompts itself."""

from __future__ import annotations

import torch

from twofold.sampling.base import Sample
from twofold.sampling.dealt import all_completions, own_prompts


def test_alone_all_prompts_are_ones_own_in_order() -> None:
    assert own_prompts([torch.arange(n) for n in (3, 5, 1)]) == [0, 1, 2]
    made = {n: [Sample(torch.tensor([n]), torch.tensor([-1.0]), truncated=False)] for n in (2, 0, 1)}
    assert all_completions(made, 3) == [made[0], made[1], made[2]]
    assert all_completions({}, 0) == []
