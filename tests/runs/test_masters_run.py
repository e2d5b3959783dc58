"""A run of all weights in bfloat16 has masters, and writes what it trained in the dtype of its base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import twofold
from twofold.records import Pair, Source


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_what_is_written(dtype: torch.dtype, tmp_path: Path, base: Path) -> None:
    """Of a bfloat16 base the very weights that the policy computed with, of a float32 base its masters."""
    AutoModelForCausalLM.from_pretrained(base, dtype=dtype).save_pretrained(base)
    rows = [Pair(f"{n}?", str(n), "no", Source("mine", n)) for n in range(8)]
    trained = twofold.train(
        str(base), rows, run=str(tmp_path / "run"), model={"precision": "bfloat16"},
        optimizer={"learning_rate": 1e-5}, training={"steps": 3, "batch_size": 4},
    )  # fmt: skip
    masters = trained.policy.masters
    assert masters is not None
    written = load_file(tmp_path / "run" / "model" / "model.safetensors")
    for name, parameter in trained.policy.trainable().items():
        want = parameter.detach() if dtype == torch.bfloat16 else masters.of(name)
        assert written[name].dtype == dtype, name
        assert torch.equal(written[name].float(), want), name
