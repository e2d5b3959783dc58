"""Quantized models by hand: record, config, what is counted and left out, and plain layers of their bits."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from support import tiny
from twofold.errors import ModelError
from twofold.models import quantized
from twofold.models.load import ModelSettings, load_weights
from twofold.models.quantized import (
    BYTES_PER_WEIGHT,
    Quantization,
    count_quantized,
    dequantize,
    is_quantized,
    plain_weight,
    quantization_of,
    refuse_absent,
    refuse_misnamed,
    refuse_requantizing,
    refuse_whole_tuning,
    remember_quantization,
    separate_scales,
    settle,
    spared,
)

WEIGHT = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
NF4 = Quantization("nf4", torch.bfloat16, ("lm_head", "a.b"))


class Bits(nn.Module):
    """A layer of 2 inputs and 3 outputs that dequantizes to `WEIGHT`."""

    in_features, out_features = 2, 3

    def __init__(self, *, bias: bool = False, source: type | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([1.0, 2.0, 3.0])) if bias else None
        self.separated = False
        if source is not None:
            self.source_cls = source

    def dequantized(self) -> Tensor:
        return WEIGHT

    def separate(self) -> None:
        self.separated = True


class OfBits:
    """A step of loading that undoes bits."""


OfBits.__module__ = "transformers.integrations.bitsandbytes"


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain, self.bits = nn.Linear(2, 2), Bits(bias=True)
        self.inner = nn.ModuleDict({"turned": Bits(source=Conv1D)})
        self.config = SimpleNamespace(quantization_config={})
        self.is_quantized = self.is_loaded_in_4bit = True


def test_bytes_of_a_weight() -> None:
    assert BYTES_PER_WEIGHT == {"nf4": 0.515869140625, "int8": 1.0}


@pytest.mark.parametrize(("kind", "four"), [("nf4", True), ("int8", False)])
def test_the_config_of_transformers(kind: str, four: bool) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    made = Quantization(kind, torch.float16, ("a", "b")).config()
    assert (made.load_in_4bit, made.load_in_8bit) == (four, not four)
    assert (made.llm_int8_skip_modules, made.bnb_4bit_quant_type) == (["a", "b"], "nf4")
    assert (made.bnb_4bit_use_double_quant, made.bnb_4bit_compute_dtype) == (True, torch.float16)


def test_a_record_comes_back(tmp_path: Path) -> None:
    assert Quantization.recorded(str(tmp_path)) is None
    NF4.save(tmp_path)
    text = '{\n  "quantize": "nf4",\n  "dtype": "bfloat16",\n  "spared": [\n    "lm_head",\n    "a.b"\n  ]\n}\n'
    assert (tmp_path / "quantization.json").read_text(encoding="utf-8") == text
    assert Quantization.recorded(str(tmp_path)) == NF4


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"quantize": "nf4"}', '{"quantize": "nf4", "dtype": "no", "spared": []}',
     '{"quantize": "nf4", "dtype": "float32", "spared": 3}'],
)  # fmt: skip
def test_a_damaged_record_is_one_message(text: str, tmp_path: Path) -> None:
    (tmp_path / "quantization.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as error:
        Quantization.recorded(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path}: quantization.json does not describe a quantization\n  → put the file back as it was written"
    )


def test_refusals_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_requantizing(None, "m", "a")
    refuse_requantizing("nf4", "m", None)
    with pytest.raises(ModelError) as error:
        refuse_requantizing("nf4", "m", "a")
    assert str(error.value) == (
        "m: is an adapter, and a base with a merged adapter is not quantized\n"
        "  → `twofold export` it and name that folder, or set model.adapter to continue training the adapter"
    )
    model: Any = Model()
    for name, where in (("here", "here"), ("", "model.path")):
        model.name_or_path = name
        with pytest.raises(ModelError) as error:
            refuse_whole_tuning(model)
        assert str(error.value) == (
            f"{where}: its weights are quantized, and cannot be trained\n"
            "  → set model.lora={rank: 16}, or choose a model that is not quantized"
        )
    refuse_whole_tuning(tiny.llama())
    monkeypatch.setattr(quantized, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    with pytest.raises(ModelError) as error:
        refuse_absent()
    assert str(error.value) == (
        "model.quantize: bitsandbytes is not installed\n"
        "  → pip install 'twofold[quantized]', or leave model.quantize out"
    )
    monkeypatch.setattr(quantized, "find_spec", lambda name: name)
    refuse_absent()


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a", True), ("x.a", True), ("a.x", True), ("xa", False), ("ax", False), ("x.a.y", False), ("b.c", True),
     ("x.b.c", True), ("b", False)],
)  # fmt: skip
def test_what_is_left_out_by_name(name: str, inside: bool) -> None:
    assert quantized._is_in(name, ["a", "b.c"]) == inside


def test_linear_weights_are_counted() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), Conv1D(4, 3), nn.Sequential(nn.Linear(5, 5)))
    assert count_quantized(model, []) == 6 + 12 + 25
    assert count_quantized(model, ["0"]) == 25 + 12 - 25  # and 3.0, whose name ends in it
    assert count_quantized(model, ["3"]) == 18


def test_the_head_the_score_and_what_is_trained_are_left_out() -> None:
    queries = tuple(f"model.layers.{i}.self_attn.q_proj" for i in (0, 1))
    assert spared(tiny.llama(), []) == ("lm_head",)
    assert spared(tiny.llama(), ["q_proj", "lm_head"]) == ("lm_head", *queries)
    classifier = tr.LlamaForSequenceClassification(tr.LlamaConfig(**tiny.DECODER, num_labels=1))
    assert spared(classifier, ["norm"]) == ("score", "model.norm")
    stacked: Any = nn.ParameterDict({"experts": nn.Parameter(torch.zeros(2, 2, 2))})
    with pytest.raises(ModelError) as error:
        spared(stacked, [])
    assert str(error.value) == (
        "model.quantize: bitsandbytes quantizes linear layers, and the experts of this model are stacked parameters\n"
        "  → leave model.quantize out, or choose a dense model"
    )


def test_layers_of_bits_become_plain_ones_of_their_class() -> None:
    model: Any = Model()
    plain = model.plain
    steps = [SimpleNamespace(operations=[OfBits()]), SimpleNamespace(operations=[object()]), SimpleNamespace()]
    vars(model)["_weight_conversions"] = steps
    assert is_quantized(model)
    dequantize(model, torch.float64)
    assert not is_quantized(model)
    assert (type(model.bits), type(model.inner["turned"]), model.plain) == (nn.Linear, Conv1D, plain)
    assert torch.equal(model.bits.weight, WEIGHT.double())
    assert model.bits.bias.tolist() == [1.0, 2.0, 3.0]
    assert torch.equal(model.inner["turned"].weight, WEIGHT.T.double())
    assert model.inner["turned"].weight.is_contiguous()
    assert model.inner["turned"].bias is None
    assert (model.bits.in_features, model.bits.out_features, model.inner["turned"].nf) == (2, 3, 3)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["plain.weight", "plain.bias"]
    assert model._weight_conversions == steps[1:]
    assert not hasattr(model.config, "quantization_config")
    assert not hasattr(model, "is_quantized")
    assert not hasattr(model, "is_loaded_in_4bit")
    dequantize(model, torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float64}, "a plain model stays as it is"


def test_how_a_model_was_quantized_is_stored_and_handed_on() -> None:
    model, other, plain = Model(), tiny.llama(), tiny.llama()
    assert quantization_of(model) is None
    model.is_quantized = False  # type: ignore[assignment]  # or bitsandbytes would look for its own layers
    settle(model, NF4)  # type: ignore[arg-type]  # as much of a model as is read
    assert quantization_of(model) is NF4
    settle(model)  # type: ignore[arg-type]
    assert quantization_of(model) is NF4
    remember_quantization(other, model)  # type: ignore[arg-type]
    assert quantization_of(other) is NF4
    assert (vars(other)["is_quantized"], vars(other)["is_loaded_in_4bit"]) == (False, True)
    assert "is_loaded_in_8bit" not in vars(other)
    remember_quantization(plain, other)
    assert quantization_of(plain) is None, "the other has none of these layers"
    assert plain_weight(model.bits) is WEIGHT
    assert plain_weight(model.plain) is model.plain.weight
    separate_scales(model)
    assert (model.bits.separated, model.inner["turned"].separated) == (True, True)


def claimed(folder: Path, **quantization: Any) -> Path:
    """A tiny model whose config claims a quantization that its weights do not have."""
    tiny.llama().save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": quantization}))
    return folder


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "claims that bitsandbytes quantized the weights"),
        ({"load_in_8bit": True}, "claims that bitsandbytes quantized the weights"),
        ({"quant_method": "none-such"}, "names the quantization 'none-such', which is unknown"),
        ({"quant_method": ["nf4"]}, "names the quantization"),
        ({"bits": 4}, "names the quantization 'None', which is unknown"),
    ],
)
def test_a_config_that_claims_a_quantization_is_refused(
    tmp_path: Path, quantization: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        load_weights(ModelSettings(path=str(claimed(tmp_path, **quantization))), str(tmp_path))
    assert "quantization_config" in error.value.remedy


@pytest.mark.parametrize("name", ["a.SCB", "a.weight.absmax", "a.weight.quant_state.bitsandbytes__nf4"])
def test_the_scales_of_bitsandbytes_confirm_its_config(tmp_path: Path, name: str) -> None:
    save_file({name: torch.zeros(1)}, tmp_path / "model.safetensors")
    config: Any = tr.LlamaConfig()
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    refuse_misnamed(config, str(tmp_path))
    refuse_misnamed(config, "owner/name")
    save_file({name.partition(".")[0]: torch.zeros(1)}, tmp_path / "model.safetensors")
    refuse_misnamed(tr.LlamaConfig(), str(tmp_path))
    with pytest.raises(ModelError, match="and they are plain"):
        refuse_misnamed(config, str(tmp_path))
