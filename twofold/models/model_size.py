"""A model's sizes, read off its configuration: no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from twofold.models.load import ModelSettings, attach_adapter
from twofold.models.loadable import readable
from twofold.models.locate import gguf_of
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
        config = AutoConfig.from_pretrained(
            settings.path, revision=settings.revision, gguf_file=gguf, trust_remote_code=False
        )
        if gguf is not None:
            config.quantization_config = None  # it is read dequantized
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        if settings.add_tokens:
            tokenizer = load_tokenizer(settings.path, settings.revision, settings.gguf_file)
            grow(model, prepare(tokenizer, settings.add_tokens, {}))
    parameters = sum(p.numel() for p in model.parameters())
    added = _adapter_parameters(model, settings) if settings.lora is not None else 0
    text = config.get_text_config()
    return ModelSize(
        parameters=parameters + added,
        trainable=added or parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
    )


def _adapter_parameters(model: PreTrainedModel, settings: ModelSettings) -> int:
    """What the adapter adds, counted on it."""
    with torch.device("meta"):
        attach_adapter(model, settings, seed=0)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
