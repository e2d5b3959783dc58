"""The sizes that a dry run shows are those of the policy that training makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers as tr

from support.architectures import EXPERTS, SPARSE
from support.families import build
from twofold.models.adapters import LoRA, attach_adapter
from twofold.models.load import ModelSettings
from twofold.models.model_size import model_size

FAMILIES: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "llama": lambda: build(tr.LlamaForCausalLM, tr.LlamaConfig),
    "gpt2": lambda: build(tr.GPT2LMHeadModel, tr.GPT2Config),
    "gpt_neox": lambda: build(tr.GPTNeoXForCausalLM, tr.GPTNeoXConfig),
    "mixtral": lambda: build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS),
    "qwen3_moe": lambda: build(tr.Qwen3MoeForCausalLM, tr.Qwen3MoeConfig, head_dim=8, **SPARSE),
}
TARGETS: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "llama": ("all-linear", ("q_proj", "v_proj"), ("q_proj", "embed_tokens"), ("lm_head",)),
    "gpt2": ("all-linear", ("c_attn",), ("wte", "c_proj")),
    "gpt_neox": ("all-linear", ("query_key_value",)),
    "mixtral": ("all-linear", ("q_proj",)),
    "qwen3_moe": ("all-linear",),
}


@pytest.mark.filterwarnings(
    "ignore:.*target_parameters.*", "ignore:.*tie_word_embeddings.*", "ignore:.*fan_in_fan_out.*"
)
@pytest.mark.parametrize(("family", "targets"), [(f, t) for f, each in TARGETS.items() for t in each])
def test_an_adapter_has_the_parameters_that_are_foreseen(
    family: str, targets: str | tuple[str, ...], tmp_path: Path
) -> None:
    model = FAMILIES[family]()
    model.config.save_pretrained(tmp_path)
    whole = sum(p.numel() for p in model.parameters())
    settings = ModelSettings(path=str(tmp_path), lora=LoRA(rank=3, targets=targets))
    size = model_size(settings)
    adapter = attach_adapter(model, settings, seed=0)
    assert adapter is not None
    added = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    assert (size.trainable, size.parameters) == (added, whole + added)
    assert 0 < added < whole
    plain = model_size(ModelSettings(path=str(tmp_path)))
    assert (plain.trainable, plain.parameters) == (whole, whole)
