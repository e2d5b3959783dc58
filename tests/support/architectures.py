"""Tiny random models in which something depends on the length of a row, or on what comes after a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as tr

from support import tiny
from support.families import build

FAR = 70
"""A window, longer than any row that a trial of the model itself would have."""
SWITCH = 24
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 8.0, 16.0],
    "original_max_position_embeddings": SWITCH,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
ENCODER = {
    **tiny.SPECIAL, "pad_token_id": 0, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
BART = {
    **tiny.SPECIAL, "pad_token_id": 0, "d_model": 32, "decoder_layers": 2, "encoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "decoder_ffn_dim": 40, "encoder_ffn_dim": 40,
    "max_position_embeddings": 64, "forced_eos_token_id": None, "decoder_start_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SPARSE = {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}


def _sharp(model: Callable[[Any], tr.PreTrainedModel], config: Callable[..., Any], **sizes: Any) -> tr.PreTrainedModel:
    return tiny.sharp(model(config(**sizes)))


BY_LENGTH: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "phi3": lambda: build(
        tr.Phi3ForCausalLM, tr.Phi3Config, max_position_embeddings=256, rope_parameters=dict(LONGROPE),
        original_max_position_embeddings=SWITCH,
    ),
    "llama": lambda: tiny.llama(max_position_embeddings=SWITCH, rope_parameters=dict(DYNAMIC)),
}  # fmt: skip
"""Whose rotary factors depend on the longest row of a call."""

IN_THE_MASK: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "phimoe": lambda: build(
        tr.PhimoeForCausalLM, tr.PhimoeConfig, sliding_window=FAR, max_position_embeddings=256, **EXPERTS
    ),
    "olmoe": lambda: build(
        tr.OlmoeForCausalLM, tr.OlmoeConfig, sliding_window=FAR, max_position_embeddings=256, **SPARSE
    ),
    "qwen2_moe": lambda: build(
        tr.Qwen2MoeForCausalLM, tr.Qwen2MoeConfig, sliding_window=FAR, use_sliding_window=True, max_window_layers=0,
        max_position_embeddings=256, **SPARSE,
    ),
}  # fmt: skip
"""Whose window the model's own mask knows, and perhaps nothing else."""

LEAKING: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "bert": lambda: _sharp(tr.BertLMHeadModel, tr.BertConfig, **ENCODER),
    "bert-generation": lambda: _sharp(tr.BertGenerationDecoder, tr.BertGenerationConfig, **ENCODER),
    "big_bird": lambda: _sharp(tr.BigBirdForCausalLM, tr.BigBirdConfig, **ENCODER),
    "roberta": lambda: _sharp(tr.RobertaForCausalLM, tr.RobertaConfig, **ENCODER),
    "xlm": lambda: _sharp(tr.XLMWithLMHeadModel, tr.XLMConfig, vocab_size=61, emb_dim=32, n_layers=2, n_heads=4),
}
"""What they say of a token depends on those behind it."""

UNCACHED: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "openai-gpt": lambda: _sharp(
        tr.OpenAIGPTLMHeadModel, tr.OpenAIGPTConfig, vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64
    ),
    "rwkv": lambda: _sharp(
        tr.RwkvForCausalLM, tr.RwkvConfig, vocab_size=61, hidden_size=32, num_hidden_layers=2, context_length=64
    ),
    "xlstm": lambda: tr.xLSTMForCausalLM(
        tr.xLSTMConfig(vocab_size=61, hidden_size=64, num_blocks=2, num_heads=2)
    ).eval(),
    "mamba": lambda: _sharp(
        tr.MambaForCausalLM, tr.MambaConfig, **tiny.SPECIAL, hidden_size=32, num_hidden_layers=2, state_size=4
    ),
    "bart, its decoder": lambda: _sharp(tr.BartForCausalLM, tr.BartConfig, **BART),
}
"""Causal, and without a cache of keys and values that a sampler could drive."""
