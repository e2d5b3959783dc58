"""A model's sizes, read off its configuration: no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from twofold.models.load import ModelSettings, attach_adapter
from twofold.models.loadable import readable


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
        config = AutoConfig.from_pretrained(settings.path, revision=settings.revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        parameters = sum(p.numel() for p in model.parameters())
        adapter = attach_adapter(model, replace(settings, adapter=None), seed=0)
    added = sum(p.numel() for p in adapter.parameters() if p.requires_grad) if adapter is not None else 0
    text = config.get_text_config()
    return ModelSize(
        parameters=parameters + added,
        trainable=added or parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
    )
