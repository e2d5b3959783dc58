"""The sides that the sampler's benchmark measures differ in one thing each."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.sampler import Case, ours, sampler_of, unpacked
from twofold.models import prepacked


def test_unpacked_draws_the_same_without_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, **sizes)).eval()
    packed: list[int] = []
    before = prepacked._forward

    def counted(layer: nn.Linear, dtype: torch.dtype) -> prepacked.Forward:
        packed.append(layer.out_features)
        return before(layer, dtype)

    monkeypatch.setattr(prepacked, "_forward", counted)
    case, prompts = Case(2, 20), [torch.arange(1, 8)]
    side = ours(sampler_of(model, range(200, 300), case, 4), case)
    lengths = unpacked(side)(prompts, 3)
    assert (packed, len(lengths)) == ([], 2)
    assert side(prompts, 3) == lengths
    assert 300 in packed
