"""Sizes by hand: the key-value cache, what is outside the layers, and a model in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.models import model_size as sizes
from twofold.models.adapters import LoRA
from twofold.models.load import ModelSettings
from twofold.models.model_size import model_size, size_of

LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40 + 2 * 32


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, 2 * 3 * 4 * 8),
        ({"num_key_value_heads": 2}, 2 * 3 * 2 * 8),
        ({"head_dim": 5}, 2 * 3 * 4 * 5),
        ({"num_key_value_heads": None, "head_dim": None}, 2 * 3 * 4 * 8),
    ],
)
def test_a_token_takes_keys_and_values_of_every_layer(fields: dict[str, Any], want: int) -> None:
    text = SimpleNamespace(num_hidden_layers=3, num_attention_heads=4, hidden_size=32, **fields)
    assert sizes._cached(text) == want


def test_the_sizes_of_a_model_as_it_is() -> None:
    model: Any = tiny.llama()
    model.model.norm.weight.requires_grad_(False)
    found = size_of(model)
    outside = 2 * 61 * 32 + 32
    assert (found.parameters, found.trainable) == (2 * LAYER + outside, 2 * LAYER + outside - 32)
    assert (found.outside, found.quantized, found.cached) == (outside, 0, 2 * 2 * 2 * 8)
    assert (found.layers, found.hidden, found.vocabulary) == (2, 32, 61)
    assert [shape for shape, aside in found.shapes if aside] == [torch.Size([61, 32])] * 2
    assert torch.Size([32]) in [shape for shape, aside in found.shapes if not aside]


def test_a_model_in_memory_is_sized_by_its_config_without_a_folder() -> None:
    """Its added tokens are rows of it already."""
    config = tr.LlamaConfig(**tiny.DECODER)
    settings = ModelSettings(path="/nowhere", add_tokens=("a", "b"), lora=LoRA(rank=1, targets=("v_proj",)))
    found = model_size(settings, config)
    whole = 2 * LAYER + 2 * 61 * 32 + 32
    assert (found.vocabulary, found.parameters, found.trainable) == (61, whole + 2 * 48, 2 * 48)
    assert model_size(ModelSettings(path="/nowhere"), config).trainable == whole


def test_a_gguf_file_is_sized_as_it_is_dequantized(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def config_at(*named: Any) -> Any:
        calls.append(named)
        return SimpleNamespace(quantization_config="bits")

    monkeypatch.setattr(sizes, "config_at", config_at)
    read: Any = sizes._stored_config(ModelSettings(path="org/m", revision="r1", gguf_file="a.gguf"))
    plain: Any = sizes._stored_config(ModelSettings(path="org/m", revision="r1"))
    assert (read.quantization_config, plain.quantization_config) == (None, "bits")
    assert calls == [("org/m", "r1", "a.gguf"), ("org/m", "r1", None)]
