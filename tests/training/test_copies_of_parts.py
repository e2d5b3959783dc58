"""What is written in the background is a copy that training does not change."""

from __future__ import annotations

import torch

from twofold.training.tensor_files import Part


def test_a_part_apart_is_a_copy() -> None:
    value = torch.ones(2)
    part = Part(value, (1, 0), (3, 2))
    apart = part.apart()
    value.zero_()
    assert (apart.value.tolist(), apart.begin, apart.shape) == ([1.0, 1.0], (1, 0), (3, 2))
