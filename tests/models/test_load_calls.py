"""What loading hands on: settings and their bounds, the call of transformers, the precision of training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support import tiny
from twofold.errors import ModelError
from twofold.models import load
from twofold.models.adapters import LoRA
from twofold.models.load import (
    ModelSettings,
    is_residual_narrow,
    load_weights,
    model_options,
    save_policy,
    training_precision,
    weights_dtype,
)
from twofold.models.quantized import Quantization, quantization_of


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"recompute_every": 0}, "recompute_every must be ≥ 1"),
        ({"router_aux_loss_coef": -0.5}, "router_aux_loss_coef must be ≥ 0"),
        ({"train_tokens": True, "lora": LoRA()}, "train_tokens asks for lora and add_tokens"),
        ({"train_tokens": True, "add_tokens": ("a",)}, "train_tokens asks for lora and add_tokens"),
        ({"quantize": "nf4", "precision": "float64"}, "quantize has no float64: set precision to auto, float32 or bfl"),
    ],
)
def test_settings_out_of_bounds(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        ModelSettings(path="m", **wrong)


def test_settings_at_their_bounds() -> None:
    for fine in (
        {"recompute_every": 1}, {"router_aux_loss_coef": 0.0}, {"lora": LoRA(), "add_tokens": ("a",)},
        {"train_tokens": True, "lora": LoRA(), "add_tokens": ("a",)}, {"precision": "float64"}, {"quantize": "int8"},
    ):  # fmt: skip
        assert ModelSettings(path="m", **fine).path == "m"


@pytest.mark.parametrize("cuda", [False, True])
def test_the_residual_stream_is_narrow_where_asked_or_on_a_gpu(cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    narrow = {r: is_residual_narrow(ModelSettings(path="m", residual=r)) for r in ("auto", "float32", "bfloat16")}
    assert narrow == {"auto": cuda, "float32": False, "bfloat16": True}
    assert not is_residual_narrow(ModelSettings(path="m", device="cpu"))


@pytest.mark.parametrize(("lora", "adapter", "hidden"), [(None, None, 0), (LoRA(), None, 640), (None, "a", 640)])
def test_the_width_counts_for_an_adapters_base_alone(
    lora: LoRA | None, adapter: str | None, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(load, "resolve_precision", lambda *arguments: calls.append(arguments) or "bfloat16")
    settings = ModelSettings(path="m", precision="auto", device="cpu", lora=lora, adapter=adapter)
    assert training_precision(settings, 640) == "bfloat16"
    assert calls == [("auto", "cpu", hidden)]
    narrow = torch.bfloat16 if hidden else torch.float32
    assert weights_dtype(settings, tiny.llama().config) == narrow


def test_the_options_of_a_model_are_its_settings() -> None:
    how: dict[str, Any] = {
        "sharing": "rows", "activation_checkpointing": True, "recompute_every": 3, "router_aux_loss_coef": 0.5,
    }  # fmt: skip
    settings = ModelSettings(path="m", precision="float32", device="cpu", **how)
    adapter: Any = object()
    assert model_options(settings, tiny.llama(), adapter) == {
        "adapter": adapter, "autocast": None, "cast": None, **how,
    }  # fmt: skip


class Auto:
    """An auto class that records its calls and returns `model`."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls, self.missing = model, list[Any](), list[str]()

    def from_pretrained(self, path: str, **how: Any) -> tuple[Any, dict[str, Any]]:
        self.calls.append((path, how))
        return self.model, {"missing_keys": self.missing, "mismatched_keys": set(), "unexpected_keys": set()}

    def from_config(self, config: Any, **how: Any) -> Any:
        return type(self.model)(config)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls for a config and for the dtype on disk."""
    calls: list[Any] = []
    monkeypatch.setattr(load, "config_at", lambda *arguments: calls.append(arguments) or tiny.llama().config)
    monkeypatch.setattr(load, "dtype_on_disk", lambda *arguments: calls.append(arguments) or torch.float16)
    return calls


PLAIN = {
    "trust_remote_code": False, "attn_implementation": None, "output_loading_info": True,
    "ignore_mismatched_sizes": True,
}  # fmt: skip


def test_weights_are_asked_for_by_revision_dtype_and_form(read: list[Any]) -> None:
    auto: Any = Auto(tiny.llama())
    settings = ModelSettings(path="org/m", revision="r1", precision="float32", device="cpu")
    model = load_weights(settings, "org/m", auto)
    how = {**PLAIN, "revision": "r1", "dtype": torch.float32, "use_safetensors": True}
    assert auto.calls == [("org/m", how)]
    assert read == [("org/m", "r1", None), ("org/m", "r1", None)]
    assert model.twofold_stored_dtype == torch.float16
    auto.missing = ["b", "a"]
    with pytest.raises(ModelError, match="lacks weights that a LlamaForCausalLM has: a and 1 more"):
        load_weights(settings, "org/m", auto)


def test_a_gguf_file_is_asked_for_by_name_and_comes_plain(read: list[Any]) -> None:
    auto: Any = Auto(tiny.llama())
    auto.model.config.quantization_config = auto.model.hf_quantizer = object()
    auto.model.is_quantized = True
    settings = ModelSettings(path="org/m", gguf_file="a.gguf", precision="float64", device="cpu")
    model: Any = load_weights(settings, "org/m", auto)
    how = {**PLAIN, "revision": None, "dtype": torch.float64, "gguf_file": "a.gguf"}
    assert auto.calls == [("org/m", how)]
    assert read == [("org/m", None, "a.gguf")]  # float64 is written as such, whatever is on disk
    assert (model.is_quantized, hasattr(model, "hf_quantizer")) == (False, False)
    assert not hasattr(model.config, "quantization_config")
    quantized = ModelSettings(path="org/m", gguf_file="a.gguf", quantize="nf4", lora=LoRA())
    with pytest.raises(ModelError) as error:
        load_weights(quantized, "org/m", auto)
    assert str(error.value) == (
        "model.quantize: a GGUF file comes dequantized, and stays so\n"
        "  → train on the folder that the GGUF file was made from, or leave model.quantize out"
    )


def test_a_quantized_base_is_asked_for_with_its_bits_and_device(read: list[Any]) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    auto: Any = Auto(tiny.llama())
    lora = LoRA(modules_to_save=("norm",))
    settings = ModelSettings(path="org/m", precision="bfloat16", device="cpu", quantize="nf4", lora=lora)
    model = load_weights(settings, "org/m", auto)
    ((_, how),) = auto.calls
    assert (how["device_map"], how["dtype"], how["use_safetensors"]) == ({"": "cpu"}, torch.bfloat16, True)
    assert how["quantization_config"].load_in_4bit
    assert quantization_of(model) == Quantization("nf4", torch.bfloat16, ("lm_head", "model.norm"))


def test_an_adapter_goes_on_with_the_bits_that_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Quantization("nf4", torch.float32, ("lm_head",))
    monkeypatch.setattr(Quantization, "recorded", lambda adapter: known if adapter == "a" else None)
    config, auto = SimpleNamespace(), Auto(tiny.llama())

    def resolved(**how: Any) -> Quantization | None:
        settings = ModelSettings(path="m", **how)
        return load._quantization(settings, config, torch.bfloat16, auto)  # type: ignore[arg-type]  # as much as is read

    assert resolved() is None
    assert resolved(adapter="b") is None
    assert resolved(adapter="a", quantize="nf4") == Quantization("nf4", torch.bfloat16, ("lm_head",))
    for quantize in (None, "int8"):
        with pytest.raises(ModelError) as error:
            resolved(adapter="a", quantize=quantize)
        assert str(error.value) == (
            "a: was trained on a base in nf4\n  → set model.quantize=nf4, or `twofold export` it and train on that"
        )
    config.quantization_config = {}
    assert resolved() is None
    with pytest.raises(ModelError) as error:
        resolved(quantize="nf4", lora=LoRA())
    assert str(error.value) == (
        "m: is quantized already\n  → leave model.quantize out, or name the folder of the model before that"
    )


def test_other_weights_can_be_written_and_only_the_first_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny.policy(dtype=torch.float32)
    weights = {name: value + 1 for name, value in policy.model.state_dict().items()}
    save_policy(policy, tiny.tokenizer(), tmp_path / "out", weights=weights)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in written.items())
    monkeypatch.setattr(load, "world", lambda: SimpleNamespace(first=False))
    save_policy(policy, tiny.tokenizer(), tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
