"""The sizes of a model, computed from its configuration without loading weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from twofold.models.adapters import attach_adapter, saved_by
from twofold.models.load import ModelSettings
from twofold.models.loadable import readable
from twofold.models.locate import gguf_of
from twofold.models.quantized import count_quantized, refuse_absent, spared
from twofold.models.seq2seq import auto_class
from twofold.models.sharding import layers
from twofold.models.tokenizer_files import config_at, load_tokenizer
from twofold.models.tokenizers import grow, prepare


@dataclass(frozen=True)
class ModelSize:
    """The number of parameters, of trained parameters, and the sizes that determine activations and logits."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    vocabulary: int
    shapes: tuple[tuple[torch.Size, bool], ...]
    """The shape of each trained parameter, and whether it is an embedding."""
    cached: int
    """Numbers per token in the key-value cache, over all layers."""
    quantized: int
    """Parameters of the base that are quantized."""
    outside: int
    """Parameters outside the layers: embeddings, head and last norm."""


def _stored_config(settings: ModelSettings) -> PreTrainedConfig:
    gguf = gguf_of(settings.path, settings.gguf_file)
    config = config_at(settings.path, settings.revision, gguf)
    if gguf is not None:
        config.quantization_config = None  # it is read dequantized
    return config


def model_size(settings: ModelSettings, config: PreTrainedConfig | None = None) -> ModelSize:
    """The sizes of the policy that `load_policy` would make. The parameters of an existing adapter are not counted. For
    a model that is in memory, pass its `config`; added tokens are then not counted."""
    if settings.quantize is not None:
        refuse_absent()
    with readable(settings.path), torch.device("meta"):
        stored = config is None
        known = _stored_config(settings) if config is None else config
        model = auto_class(known).from_config(known, trust_remote_code=False)
        if settings.add_tokens and stored:
            tokenizer = load_tokenizer(settings.path, settings.revision, settings.gguf_file)
            grow(model, prepare(tokenizer, settings.add_tokens, {}))
        parameters = sum(p.numel() for p in model.parameters())
        saved = settings.lora.modules_to_save if settings.lora else saved_by(settings.adapter)
        quantized = 0 if settings.quantize is None else count_quantized(model, spared(model, saved))
        adapter = attach_adapter(model, replace(settings, adapter=None), seed=0)
    added = sum(p.numel() for p in model.parameters() if p.requires_grad) if adapter is not None else 0
    return replace(size_of(model), parameters=parameters + added, trainable=added or parameters, quantized=quantized)


def size_of(model: PreTrainedModel) -> ModelSize:
    """The sizes of a model as it is, with or without weights; nothing counts as quantized."""
    aside = {id(m.weight) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
    trained = [p for p in model.parameters() if p.requires_grad]
    parameters, text = sum(p.numel() for p in model.parameters()), model.config.get_text_config()
    return ModelSize(
        parameters=parameters,
        trainable=sum(p.numel() for p in trained),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
        shapes=tuple((p.shape, id(p) in aside) for p in trained),
        cached=_cached(text),
        quantized=0,
        outside=parameters - sum(p.numel() for layer in layers(model) for p in layer.parameters()),
    )


def _cached(text: Any) -> int:
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width
