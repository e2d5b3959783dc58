"""A tiny random model of every family: those whose prompts can be shared, and those whose cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as tr

from support import tiny

WINDOW = {"sliding_window": 8}
GEMMA = {**WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8}


def build(model: Callable[[Any], tr.PreTrainedModel], config: Callable[..., Any], **changes: Any) -> tr.PreTrainedModel:
    return tiny.sharp(model(config(**{**tiny.DECODER, **changes})))


FAMILIES: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "llama": tiny.llama,
    "qwen2": lambda: build(tr.Qwen2ForCausalLM, tr.Qwen2Config),
    "qwen2.5": lambda: build(tr.Qwen2ForCausalLM, tr.Qwen2Config, tie_word_embeddings=True, rms_norm_eps=1e-5),
    "qwen3": lambda: build(tr.Qwen3ForCausalLM, tr.Qwen3Config, head_dim=8),
    "mistral": lambda: build(tr.MistralForCausalLM, tr.MistralConfig, **WINDOW),
    "gemma3": lambda: build(
        tr.Gemma3ForCausalLM, tr.Gemma3TextConfig, layer_types=["sliding_attention", "full_attention"], **GEMMA
    ),
    "gemma2": lambda: build(
        tr.Gemma2ForCausalLM, tr.Gemma2Config, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **GEMMA
    ),
    "gpt2": tiny.gpt2,
    "neox": lambda: build(tr.GPTNeoXForCausalLM, tr.GPTNeoXConfig, num_key_value_heads=4),
}
ROUNDED: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "cohere": lambda: build(tr.CohereForCausalLM, tr.CohereConfig, logit_scale=0.5),
    "cohere2": lambda: build(tr.Cohere2ForCausalLM, tr.Cohere2Config, logit_scale=0.25, **WINDOW),
    "granite": lambda: build(tr.GraniteForCausalLM, tr.GraniteConfig, logits_scaling=8.0, residual_multiplier=0.5),
    "stablelm": lambda: build(tr.StableLmForCausalLM, tr.StableLmConfig, use_parallel_residual=True),
    "nemotron": lambda: build(tr.NemotronForCausalLM, tr.NemotronConfig),
    "gpt_oss": lambda: build(
        tr.GptOssForCausalLM, tr.GptOssConfig, head_dim=8, num_local_experts=2, num_experts_per_tok=1, **WINDOW
    ),
    "bloom": lambda: tiny.sharp(
        tr.BloomForCausalLM(tr.BloomConfig(**tiny.SPECIAL, hidden_size=32, n_layer=2, n_head=4))
    ),
}
"""Shared as well: what scales its logits, hands no keyword arguments on, has sinks or ALiBi. In float64 it rounds to
float32."""
UNSHARED: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "mamba": lambda: tiny.sharp(
        tr.MambaForCausalLM(tr.MambaConfig(**tiny.SPECIAL, hidden_size=32, num_hidden_layers=2, state_size=4))
    ),
}
