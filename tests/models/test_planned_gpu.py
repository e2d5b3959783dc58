"""A planned GPU is there inside its context, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from twofold.models.load import resolve_device
from twofold.models.planned import on_gpu, planned_gpu, planned_memory


def test_it_is_there_inside_the_context_only() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert (planned_memory(), on_gpu(cpu), on_gpu(cuda)) == (None, False, True)
    with planned_gpu(0):
        assert (planned_memory(), on_gpu(cpu), on_gpu(cuda)) == (0, True, True)
        assert (resolve_device("auto"), resolve_device("cuda"), resolve_device("cpu")) == ("cuda", "cuda", "cpu")
        with planned_gpu(None):
            assert (planned_memory(), on_gpu(cpu)) == (None, False)
        assert planned_memory() == 0
    with pytest.raises(KeyError), planned_gpu(8):
        raise KeyError
    assert planned_memory() is None
