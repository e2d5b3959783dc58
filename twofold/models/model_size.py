"""A model's sizes, read off its configuration: no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from twofold.models.load import LoRA, ModelSettings
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
    added = _lora_parameters(model, settings.lora) if settings.lora is not None else 0
    text = config.get_text_config()
    return ModelSize(
        parameters=parameters + added,
        trainable=added or parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
    )


def _lora_parameters(model: PreTrainedModel, lora: LoRA) -> int:
    """rank · (inputs + outputs) of each adapted layer."""
    head = model.get_output_embeddings()
    named = None if isinstance(lora.targets, str) else set(lora.targets)
    matrices = [
        module.weight.shape
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and module is not head
        if named is None or name.rpartition(".")[2] in named
    ]
    return sum(lora.rank * sum(shape) for shape in matrices)  # type: ignore[arg-type, misc]  # of a module's weight
