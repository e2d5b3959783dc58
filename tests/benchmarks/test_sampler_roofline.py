"""The bytes of the sampler's roofline, counted by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.sampler import Roofline, copied_per_second

SIZES = {
    "vocab_size": 10, "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
def test_bytes_are_weights_per_step_and_keys_per_token(tied: bool) -> None:
    """A layer: q and o 8·8, k and v 8·4, biases 8+4+4, three 8·6, two norms of 8; a norm, the head of 10·8."""
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=tied)).bfloat16()
    roofline = Roofline.of(model)
    layer = 2 * 64 + 2 * 32 + 16 + 3 * 48 + 2 * 8
    assert roofline.weights == 2 * (3 * layer + 8 + 80)
    assert roofline.per_token == 2 * 3 * 2 * 2 * 2
    assert roofline.bandwidth > 1e6


def test_share_counts_what_each_step_must_read() -> None:
    """Prompt of 5, drafts of 3 and 1 tokens: two steps, which see 6 and 7 positions; the draft of 1 sees none."""
    share = Roofline(weights=1000, per_token=10, bandwidth=100.0).share([5], [[3, 1]], steps=2, seconds=4.0)
    assert share == pytest.approx((2 * 1000 + (6 + 7) * 10) / 4.0 / 100.0)


def test_a_copy_is_measured() -> None:
    assert copied_per_second(torch.device("cpu"), 2**20) > 1e7
