"""A model's sizes, read off its configuration: no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import AutoModelForCausalLM

from twofold.models.load import ModelSettings, attach_adapter
from twofold.models.loadable import readable
from twofold.models.locate import gguf_of
from twofold.models.stored import config_at
from twofold.models.tokenizers import grow, load_tokenizer, prepare


@dataclass(frozen=True)
class ModelSize:
    """Parameters, those that training would move, and what activations and logits grow with."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    vocabulary: int


def model_size(settings: ModelSettings) -> ModelSize:
    """The sizes of the policy that `load_policy` would make, but for an existing adapter, whose own are not counted."""
    with readable(settings.path), torch.device("meta"):
        gguf = gguf_of(settings.path, settings.gguf_file)
        config = config_at(settings.path, settings.revision, gguf)
        if gguf is not None:
            config.quantization_config = None  # it is read dequantized
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        if settings.add_tokens:
            tokenizer = load_tokenizer(settings.path, settings.revision, settings.gguf_file)
            grow(model, prepare(tokenizer, settings.add_tokens, {}))
        parameters = sum(p.numel() for p in model.parameters())
        adapter = attach_adapter(model, replace(settings, adapter=None), seed=0)
    added = sum(p.numel() for p in adapter.parameters() if p.requires_grad) if adapter is not None else 0
    text = model.config.get_text_config()
    return ModelSize(
        parameters=parameters + added,
        trainable=added or parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
    )
