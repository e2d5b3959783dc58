"""The model to be trained, without data in its weights: it can be run to count the memory of a step."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from twofold.batch import Group
from twofold.models.adapters import CLASSIFYING, attach_adapter
from twofold.models.footprint import Build, step_bytes
from twofold.models.heads import RewardModel
from twofold.models.load import ModelSettings, model_options, resolve_device, training_precision, weights_dtype
from twofold.models.locate import gguf_of
from twofold.models.planned import planned_gpu, planned_memory
from twofold.models.policy import Policy
from twofold.models.precision import hidden_units
from twofold.models.seq2seq import auto_class
from twofold.models.tokenizer_files import config_at


def training_bytes(
    settings: ModelSettings,
    groups: Sequence[Group],
    config: PreTrainedConfig | None = None,
    *,
    scored: bool,
    several: bool,
) -> int | None:
    """`step_bytes` of the policy, or of the reward model if groups are `scored`; None if the model's own code cannot
    run without data. `config` is that of a model in memory."""

    def weights(config: PreTrainedConfig) -> PreTrainedModel:
        family: Any = AutoModelForSequenceClassification if scored else auto_class(config)
        dtype = weights_dtype(settings, config)
        return family.from_config(config, dtype=dtype, trust_remote_code=False)

    def adapted(model: PreTrainedModel) -> Any:
        task = CLASSIFYING if scored else None
        if settings.adapter is None:
            return attach_adapter(model, replace(settings, train_tokens=False), 0, task)
        from peft import PeftConfig, get_peft_model

        return get_peft_model(model, PeftConfig.from_pretrained(settings.adapter))

    def whole(model: PreTrainedModel, adapter: Any) -> Policy | RewardModel:
        return (RewardModel if scored else Policy)(model, **model_options(settings, model, adapter))

    config = _config(settings) if config is None else copy.deepcopy(config)
    if scored:
        config.num_labels = 1
        config.get_text_config().pad_token_id = 0
    try:
        settings = replace(settings, precision=training_precision(settings, hidden_units(config)))
        gpu = sys.maxsize if resolve_device(settings.device) == "cuda" else None
        period = settings.recompute_every if settings.activation_checkpointing else 1
        with planned_gpu(planned_memory() or gpu):
            return step_bytes(Build(weights, adapted, whole), config, groups, several=several, period=period)
    except Exception:  # of any kind: a model's own code may fail on tensors without data
        return None


def _config(settings: ModelSettings) -> PreTrainedConfig:
    gguf = gguf_of(settings.path, settings.gguf_file)
    config: PreTrainedConfig = config_at(settings.path, settings.revision, gguf)
    if gguf is not None:
        config.quantization_config = None  # it is read dequantized
    return config
