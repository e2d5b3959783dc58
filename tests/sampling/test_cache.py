"""Which models' caches can hold drafts."""

from __future__ import annotations

import pytest
from transformers import Lfm2Config, Lfm2ForCausalLM

from twofold.errors import ModelError
from twofold.sampling.cache import refillable


def test_a_state_that_cannot_be_copied_is_refused() -> None:
    config = Lfm2Config(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"],
    )  # fmt: skip
    with pytest.raises(ModelError, match="cannot be copied from a prompt to its drafts"):
        refillable(Lfm2ForCausalLM(config))
