"""The config of a small copy, field by field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import transformers as tr

from twofold.models import small_copy as small


def config(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"num_hidden_layers": 1}, {"num_hidden_layers": 1}),
        ({"num_hidden_layers": 9}, {"num_hidden_layers": 2}),
        ({"num_hidden_layers": 0}, {"num_hidden_layers": 0}),
        ({"num_hidden_layers": None}, {"num_hidden_layers": None}),
        (
            {"num_hidden_layers": 4, "kinds": ["a", "a", "b", "a"], "pair": [1, 2]},
            {"num_hidden_layers": 3, "kinds": ["a", "a", "b"], "pair": [1, 2]},
        ),
        (
            {"num_hidden_layers": 8, "kinds": [*"abcdefgh"], "first_k_dense_replace": 3},
            {"num_hidden_layers": 6, "kinds": [*"abcdef"], "first_k_dense_replace": 1},
        ),
        (
            {"num_hidden_layers": 6, "num_kv_shared_layers": 2, "kinds": [*"abaaab"]},
            {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "kinds": [*"abab"]},
        ),
        (
            {"num_hidden_layers": 5, "num_kv_shared_layers": 1, "decoder_layers": 5, "encoder_layers": 7},
            {"num_hidden_layers": 3, "num_kv_shared_layers": 1, "decoder_layers": 3, "encoder_layers": 3},
        ),
    ],
)
def test_a_layer_of_each_kind_is_left(fields: dict[str, Any], want: dict[str, Any]) -> None:
    """Two at least, six at most; layers that borrow keys and values are a kind of their own."""
    made = config(**fields)
    small._fewer_layers(made)
    assert vars(made) == want


@pytest.mark.parametrize(
    ("fields", "most", "want"),
    [
        ({"num_attention_heads": 8, "hidden_size": 64, "num_key_value_heads": 8}, 2,
         {"num_attention_heads": 2, "hidden_size": 16, "num_key_value_heads": 2}),
        ({"num_attention_heads": 8, "hidden_size": 64, "num_key_value_heads": 4, "d_model": 64}, 4,
         {"num_attention_heads": 4, "hidden_size": 32, "num_key_value_heads": 1, "d_model": 32}),
        ({"num_attention_heads": 2, "hidden_size": 64}, 2, {"num_attention_heads": 2, "hidden_size": 64}),
        ({"num_attention_heads": 4, "hidden_size": 64, "vocab_rows": 64, "max_position_embeddings": 64}, 2,
         {"num_attention_heads": 2, "hidden_size": 32, "vocab_rows": 64, "max_position_embeddings": 64}),
        ({"num_attention_heads": 4, "hidden_size": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4}, 2,
         {"num_attention_heads": 2, "hidden_size": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}),
        ({"intermediate_size": [100, 20], "moe_intermediate_size": 49, "num_experts": 17, "n_inner": None}, 2,
         {"intermediate_size": [48, 20], "moe_intermediate_size": 48, "num_experts": 16, "n_inner": None}),
        ({"num_local_experts": 15, "ffn_dim": 47, "gated": True, "d_ff": True}, 2,
         {"num_local_experts": 15, "ffn_dim": 47, "gated": True, "d_ff": True}),
    ],
)  # fmt: skip
def test_heads_keep_their_size_and_layers_are_narrow(fields: dict[str, Any], most: int, want: dict[str, Any]) -> None:
    made = config(**fields)
    small._narrow(made, most)
    assert vars(made) == want


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"vocab_size": 63}, {"vocab_size": 63}),
        ({"vocab_size": 65, "vocab_size_per_layer": 900, "vocab_size_name": "x"},
         {"vocab_size": 64, "vocab_size_per_layer": 64, "vocab_size_name": "x"}),
        ({"eos_token_id": [2, 64], "bos_token_id": 63, "pad_token_id": None},
         {"eos_token_id": [2, 63], "bos_token_id": 63, "pad_token_id": None}),
        ({"sliding_window": 9, "local_attention": 3}, {"sliding_window": 8, "local_attention": 3}),
        ({"max_position_embeddings": 49}, {"max_position_embeddings": 48}),
        ({"max_position_embeddings": 47}, {"max_position_embeddings": 47}),
        ({"max_position_embeddings": 47, "rope_scaling": {"type": "dynamic"}},
         {"max_position_embeddings": 20, "rope_scaling": {"type": "dynamic"}}),
        ({"original_max_position_embeddings": 4096, "rope_parameters": {"original_max_position_embeddings": 99}},
         {"original_max_position_embeddings": 20, "rope_parameters": {"original_max_position_embeddings": 20}}),
        ({"rope_parameters": {"rope_type": "default", "original_max_position_embeddings": None}},
         {"rope_parameters": {"rope_type": "default", "original_max_position_embeddings": None}}),
    ],
)  # fmt: skip
def test_what_depends_on_length_is_short(fields: dict[str, Any], want: dict[str, Any]) -> None:
    made = config(**fields)
    small._shorten(made)
    assert vars(made) == want


def test_what_is_read_only_or_absent_stays() -> None:
    class Fixed(SimpleNamespace):
        @property
        def hidden_size(self) -> int:
            return 5

        @hidden_size.setter
        def hidden_size(self, value: int) -> None:
            raise NotImplementedError

    made: Any = Fixed(empty=0)
    for name in ("hidden_size", "empty", "absent"):
        small._set(made, name, 3)
    assert (made.hidden_size, made.empty, hasattr(made, "absent")) == (5, 0, False)


def test_configs_inside_a_config_are_parts_of_it() -> None:
    inner = tr.LlamaConfig(sliding_window=3)
    outer = tr.PreTrainedConfig(window_size=7)
    outer.text_config = inner
    assert list(small._parts(outer)) == [outer, inner]
    assert small.windows(outer) == [7, 3]
