"""Corners of adapters: weights trained whole under a narrow base, faults of PEFT, configs that cannot be read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from torch import nn

from support import tiny
from twofold.errors import ModelError
from twofold.models import adapters
from twofold.models.adapters import LoRA, attach_adapter, is_classifier
from twofold.models.load import ModelSettings


def dtypes(model: Any) -> dict[str, torch.dtype]:
    return {n.removeprefix("base_model.model."): p.dtype for n, p in model.named_parameters() if "lm_head" in n}


def test_what_is_trained_whole_is_wide_in_the_reference_too(tmp_path: Path) -> None:
    """Of a base in bfloat16: also where the adapter comes from a folder."""
    wide = {
        "lm_head.original_module.weight": torch.float32, "lm_head.modules_to_save.default.weight": torch.float32,
    }  # fmt: skip
    model: Any = nn.Module.to(tiny.llama(), torch.bfloat16)
    model.config.save_pretrained(tmp_path / "base")
    base = str(tmp_path / "base")
    settings = ModelSettings(path=base, lora=LoRA(rank=2, modules_to_save=("lm_head",)))
    adapter = attach_adapter(model, settings, 0)
    assert adapter is not None
    assert dtypes(model) == wide
    assert model.model.norm.weight.dtype == torch.bfloat16
    adapter.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    other: Any = nn.Module.to(tiny.llama(), torch.bfloat16)
    again = attach_adapter(other, ModelSettings(path=base, adapter=str(tmp_path / "adapter")), 0)
    assert again is not None
    assert dtypes(other) == wide
    assert vars(again.peft_config["default"])["modules_to_save"] == ["lm_head"]
    assert other.model.norm.weight.dtype == torch.bfloat16


def test_layers_that_peft_refuses_are_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(model: Any, config: Any) -> Any:
        raise ValueError("no layer\nof this kind")

    monkeypatch.setattr(peft, "get_peft_model", refuses)
    with pytest.raises(ModelError) as refused:
        attach_adapter(tiny.llama(), ModelSettings(path="here", lora=LoRA(rank=2)), 0)
    assert str(refused.value) == "model.lora.targets: no layer\n  → name other layers"


def test_experts_have_no_dora_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {"target_modules": ["q_proj"], "target_parameters": ["experts.up"]}
    monkeypatch.setattr(adapters, "targets_of", lambda model, names: targets)
    with pytest.raises(ModelError) as refused:
        attach_adapter(tiny.llama(), ModelSettings(path="here", lora=LoRA(dora=True)), 0)
    assert str(refused.value) == (
        "model.lora.dora: PEFT has no DoRA for experts\n  → set model.lora.exclude=[experts], or leave dora out"
    )


@pytest.mark.parametrize("error", [OSError("no file"), ValueError("no such type")])
def test_a_config_that_cannot_be_read_is_no_classifiers(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*named: Any) -> Any:
        raise error

    monkeypatch.setattr(adapters, "config_at", fails)
    assert not is_classifier("org/m")
    monkeypatch.setattr(
        adapters, "config_at", lambda *named: SimpleNamespace(architectures=["A", "GPT2ForSequenceClassification"])
    )
    assert is_classifier("org/m")


def test_an_adapter_without_weights_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    with pytest.raises(ModelError) as refused:
        attach_adapter(tiny.llama(), ModelSettings(path="here", adapter=str(tmp_path)), 0)
    assert str(refused.value) == (
        f"{tmp_path}: has an adapter's config without its weights\n"
        "  → put adapter_model.safetensors there, or remove adapter_config.json from a whole model"
    )


@pytest.mark.parametrize("quantized", [False, True])
def test_bits_are_dequantized_before_an_adapter_is_merged(quantized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 at least, under the adapter's own weights."""
    log: list[Any] = []
    base = SimpleNamespace(dtype=torch.bfloat16)
    wrapped: Any = SimpleNamespace(
        get_base_model=lambda: base, peft_config={"default": "config"}, unload=lambda: base,
        merge_and_unload=lambda: "merged at once",
    )  # fmt: skip
    again = SimpleNamespace(merge_and_unload=lambda: "merged again")
    monkeypatch.setattr(adapters, "is_quantized", lambda model: quantized)
    monkeypatch.setattr(adapters, "dequantize", lambda *given: log.append(given))
    monkeypatch.setattr(peft, "get_peft_model", lambda *given: log.append(given) or again)
    monkeypatch.setattr(peft, "get_peft_model_state_dict", lambda adapter: "weights")
    monkeypatch.setattr(peft, "set_peft_model_state_dict", lambda *given: log.append(given))
    made: Any = adapters.merge(wrapped)
    assert made == ("merged again" if quantized else "merged at once")
    assert log == ([(base, torch.float32), (base, "config"), (again, "weights")] if quantized else [])
