"""A tiny model whose weights are a formula, with a tokenizer of bytes: the same in every environment. No twofold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tr
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|end|>"
SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip


def formula_model(folder: Path, phase: float = 0.0) -> str:
    """The folder of a float64 Llama. Two of its tokens are of two bytes, one across a space."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "T"), ("t", "h")]
    vocabulary = {token: i for i, token in enumerate([END, *letters, *("".join(pair) for pair in merges)])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    end = AddedToken(END, special=True)
    tokenizer = tr.PreTrainedTokenizerFast(tokenizer_object=core, eos_token=end, bos_token=end, pad_token=end)
    tokenizer.save_pretrained(folder)
    size = len(vocabulary) + len(vocabulary) % 2
    config = tr.LlamaConfig(vocab_size=size, bos_token_id=0, eos_token_id=0, pad_token_id=0, **SIZES)
    model = tr.LlamaForCausalLM(config).double()
    with torch.no_grad():
        for number, (_, weight) in enumerate(sorted(model.named_parameters())):
            steps = torch.arange(weight.numel(), dtype=torch.float64).view_as(weight)
            wave = torch.sin(steps * (0.7 + 0.13 * number) + number + phase)
            weight.copy_(1 + 0.1 * wave if weight.dim() == 1 else 0.6 * wave)
    model.save_pretrained(folder)
    return str(folder)
