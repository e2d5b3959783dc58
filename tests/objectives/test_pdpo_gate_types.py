"""The share of drafts that pass has the dtype of the gaps, gated or not."""

from __future__ import annotations

import pytest
import torch

from support import tiny
from twofold.batch import Batch
from twofold.objectives.pdpo import PDPOGenerator


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_gate_every_draft_passes_in_the_dtype_of_the_gaps(dtype: torch.dtype) -> None:
    drafts = Batch.of(tiny.groups((3, 2, 4)))
    passed_B = PDPOGenerator()._judged(drafts, dtype, right=True)
    assert passed_B.dtype == dtype
    assert passed_B.tolist() == [1.0] * len(drafts.length_B)
