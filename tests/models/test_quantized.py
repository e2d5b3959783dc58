"""A base in few bits under an adapter: exact against itself, with gradient or without, and a plain model in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.architectures import EXPERTS
from support.families import build
from twofold.errors import ModelError
from twofold.models.adapters import REFERENCE_ADAPTER, LoRA, merge
from twofold.models.export import export_model
from twofold.models.heads import load_reward_model, value_model_of
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy, weights_digest, wrap
from twofold.models.model_size import model_size
from twofold.models.policy import Policy
from twofold.models.quantized import RECORD, is_quantized, refuse_whole_tuning

pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
GROUPS = tiny.pairs(5)
VOCABULARY = 64


def qwen2() -> tr.PreTrainedModel:
    return tiny.sharp(tr.Qwen2ForCausalLM(tr.Qwen2Config(**{**tiny.DECODER, "vocab_size": VOCABULARY})))


FAMILIES: dict[str, Callable[[], tr.PreTrainedModel]] = {"llama": tiny.llama, "gpt2": tiny.gpt2, "qwen2": qwen2}
KINDS: tuple[Any, ...] = ("nf4", "int8")


def stored(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "5"
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return stored(tiny.llama(), tmp_path / "base")


def logps(policy: Policy) -> Tensor:
    return torch.cat([x for row in policy.logps(GROUPS) for x in row])


def reference(policy: Policy, adapter: str | None = None) -> Tensor:
    with policy.as_reference(adapter):
        return logps(policy)


def alone(folder: Path) -> Tensor:
    """As transformers alone computes rows, in float32."""
    model: Any = tr.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return torch.cat([x for group in GROUPS for x in tiny.alone(model, group)])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_begins_as_the_quantized_base_to_the_last_bit_and_comes_back_to_it(
    family: str, kind: Any, precision: Any, tmp_path: Path
) -> None:
    path = stored(FAMILIES[family](), tmp_path)
    how: dict[str, Any] = {"path": path, "precision": precision, "quantize": kind, "lora": LoRA(rank=3)}
    policy, _ = load_policy(ModelSettings(**how))
    before, first = weights_digest(policy.model), logps(policy)
    assert torch.equal(reference(policy), first)
    outputs, _ = policy(GROUPS)
    outputs.logp_S.sum().backward()
    assert torch.equal(outputs.logp_S.detach(), first)  # with gradient as without
    assert all(p.grad is not None and p.dtype == torch.float32 for p in policy.trainable().values())
    assert weights_digest(policy.model) == before  # nothing was repacked
    tiny.learn(policy)
    assert (logps(policy) - first).abs().max() > 1
    assert torch.equal(reference(policy), first)
    rows, _ = load_policy(ModelSettings(**how, sharing="rows"))
    assert policy.shared
    assert not rows.shared
    torch.testing.assert_close(logps(rows), first, rtol=0, atol=1e-5 if precision == "float32" else 0.3)


@pytest.mark.parametrize(("kind", "error"), [("nf4", 0.15), ("int8", 0.01)])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_what_their_bits_stand_for_and_close_to_the_base(
    family: str, kind: Any, error: float, tmp_path: Path
) -> None:
    model = FAMILIES[family]()
    path = stored(model, tmp_path)
    policy, _ = load_policy(ModelSettings(path=path, precision="float32", quantize=kind, lora=LoRA(rank=2)))
    layers = {n.removesuffix(".base_layer"): m for n, m in policy.model.named_modules() if hasattr(m, "dequantized")}
    named = dict(model.named_modules())
    head = model.get_output_embeddings()
    linear = {n for n, m in named.items() if type(m).__name__ in ("Linear", "Conv1D") and m is not head}
    assert layers.keys() == linear
    for name, layer in layers.items():
        weight: Any = named[name].weight
        weight = weight.T if type(named[name]).__name__ == "Conv1D" else weight
        found: Any = layer
        off = (found.dequantized() - weight).norm() / weight.norm()
        assert 0 < off < error


def test_a_gradient_is_that_of_the_dequantized_layer(path: str) -> None:
    policy, _ = load_policy(ModelSettings(path=path, precision="float32", quantize="nf4", lora=LoRA(rank=2)))
    layer: Any = next(m for m in policy.model.modules() if hasattr(m, "dequantized"))
    x, weight = torch.randn(3, 7, 32, requires_grad=True), layer.dequantized()
    y = layer(x)
    torch.testing.assert_close(y, x @ weight.T)
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), x)[0], 2 * (x @ weight.T) @ weight)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_remembers_its_base_and_becomes_a_plain_model(family: str, kind: Any, tmp_path: Path) -> None:
    """In bfloat16 what is lost is the rounding of merged weights, as of any model that is stored so."""
    path = stored(FAMILIES[family](), tmp_path / "base")
    how: dict[str, Any] = {"path": path, "precision": "float32", "quantize": kind}
    policy, loaded = load_policy(ModelSettings(**how, lora=LoRA(rank=3)))
    tiny.learn(policy)
    trained, adapter = logps(policy), tmp_path / "adapter"
    save_policy(policy, loaded.tokenizer, adapter)
    assert json.loads((adapter / RECORD).read_text("utf-8"))["quantize"] == kind
    assert json.loads((adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"] == path
    again, _ = load_policy(ModelSettings(**how, adapter=str(adapter)))
    assert torch.equal(logps(again), trained)
    assert torch.equal(reference(again, REFERENCE_ADAPTER), trained)
    plain = load_model(ModelSettings(path=str(adapter), precision="float32")).model
    assert not is_quantized(plain)
    torch.testing.assert_close(logps(Policy(plain)), trained, rtol=1e-5, atol=2e-5)
    for dtype, bound in (("float32", 2e-5), ("bfloat16", 0.5)):
        export_model(adapter, tmp_path / dtype, dtype)  # type: ignore[arg-type]  # one of its names
        torch.testing.assert_close(alone(tmp_path / dtype), trained, rtol=1e-5, atol=bound)
    config = json.loads((tmp_path / "bfloat16" / "config.json").read_text("utf-8"))
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"


def test_a_base_that_was_loaded_in_bfloat16_comes_back_as_it_was(tmp_path: Path) -> None:
    """A float32 file is rounded before it is quantized there: the record says so."""
    path = stored(tiny.llama(), tmp_path / "base")
    settings = ModelSettings(path=path, precision="bfloat16", quantize="nf4", lora=LoRA(rank=2))
    policy, loaded = load_policy(settings)
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")  # which adds nothing yet
    export_model(tmp_path / "adapter", tmp_path / "whole", "float32")
    whole: Any = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    for name, layer in policy.model.named_modules():
        if hasattr(layer, "dequantized"):
            held: Any = layer
            written = whole.get_submodule(name.removesuffix(".base_layer")).weight
            assert torch.equal(held.dequantized().float(), written)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_whole_is_not_quantized(kind: Any, tmp_path: Path) -> None:
    path = stored(tiny.llama(tie_word_embeddings=True), tmp_path / "base")
    lora = LoRA(rank=2, dora=True, modules_to_save=("q_proj", "embed_tokens"))
    policy, loaded = load_policy(ModelSettings(path=path, precision="float32", quantize=kind, lora=lora))
    first = logps(policy)
    assert torch.equal(reference(policy), first)
    tiny.learn(policy)
    assert torch.equal(reference(policy), first)
    quantized = [name for name, module in policy.model.named_modules() if hasattr(module, "dequantized")]
    assert quantized
    assert not any("q_proj" in name for name in quantized)
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    export_model(tmp_path / "adapter", tmp_path / "whole", "float32")
    torch.testing.assert_close(alone(tmp_path / "whole"), logps(policy), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_reward_and_value_models_are_quantized_too(kind: Any, path: str, tmp_path: Path) -> None:
    settings = ModelSettings(path=path, precision="float32", quantize=kind, lora=LoRA(rank=2))
    reward, loaded = load_reward_model(settings)
    assert is_quantized(reward.model)
    tiny.learn(reward)  # type: ignore[arg-type]  # all that it needs
    scores = torch.tensor(reward.scores(GROUPS))
    save_policy(reward, loaded.tokenizer, tmp_path / "reward")
    assert (tmp_path / "reward" / RECORD).is_file()
    again, _ = load_reward_model(ModelSettings(path=str(tmp_path / "reward"), precision="float32"))
    assert not is_quantized(again.model)
    torch.testing.assert_close(torch.tensor(again.scores(GROUPS)), scores, rtol=1e-5, atol=2e-5)
    policy, held = load_policy(settings)
    value, _ = value_model_of(policy, held, settings)
    assert is_quantized(value.model)
    assert logps(policy).isfinite().all()
    with torch.no_grad():
        for parameter in value.trainable().values():
            parameter.add_(0.1)
    before = torch.cat([x for row in value.values(GROUPS) for x in row])
    assert value.adapter is not None
    whole: Any = merge(deepcopy(value.adapter))
    assert not is_quantized(whole)
    assert before.abs().max() > 0


def test_sizes_are_foreseen(path: str) -> None:
    """Two layers of width 32 and 40, keys and values of width 16."""
    lora = LoRA(rank=2)
    plain = model_size(ModelSettings(path=path, lora=lora))
    size = model_size(ModelSettings(path=path, lora=lora, quantize="nf4"))
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40
    assert (plain.quantized, size.quantized) == (0, 2 * layer)
    assert (size.parameters, size.trainable) == (plain.parameters, plain.trainable)
    spares = ModelSettings(path=path, lora=LoRA(rank=2, modules_to_save=("q_proj",)), quantize="nf4")
    assert model_size(spares).quantized == 2 * (layer - 32 * 32)


def test_a_folder_that_is_quantized_already_is_read_and_not_trained_whole(path: str, tmp_path: Path) -> None:
    config = tr.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model: Any = tr.AutoModelForCausalLM.from_pretrained(path, quantization_config=config)
    folder = stored(model, tmp_path / "quantized")
    policy, loaded = load_policy(ModelSettings(path=folder, precision="float32", lora=LoRA(rank=2)))
    assert is_quantized(policy.model)
    tiny.learn(policy)
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    export_model(tmp_path / "adapter", tmp_path / "whole", "float32")
    torch.testing.assert_close(alone(tmp_path / "whole"), logps(policy), rtol=1e-5, atol=2e-5)
    with pytest.raises(ModelError, match=r"quantized, and cannot be trained\n  → set model\.lora"):
        refuse_whole_tuning(load_model(ModelSettings(path=folder)).model)
    refuse_whole_tuning(tiny.llama())
    with pytest.raises(ModelError, match="is quantized already"):
        load_policy(ModelSettings(path=folder, quantize="nf4", lora=LoRA()))


def test_what_cannot_be_quantized_is_refused(path: str, tmp_path: Path) -> None:
    settings = ModelSettings(path=path, precision="float32", quantize="nf4", lora=LoRA(rank=2))
    policy, loaded = load_policy(settings)
    adapter = tmp_path / "adapter"
    save_policy(policy, loaded.tokenizer, adapter)
    moe = stored(build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS), tmp_path / "moe")
    for how, words in (
        ({"path": str(adapter), "quantize": "nf4", "lora": LoRA()}, "is an adapter, and a base with a merged"),
        ({"path": path, "adapter": str(adapter)}, "was trained on a base in nf4\n  → set model.quantize=nf4"),
        ({"path": path, "adapter": str(adapter), "quantize": "int8"}, "was trained on a base in nf4"),
        ({"path": moe, "quantize": "nf4", "lora": LoRA()}, "the experts of this model are stacked"),
    ):
        with pytest.raises(ModelError, match=words):
            load_policy(ModelSettings(**how))  # type: ignore[arg-type]  # a table of settings
    with pytest.raises(ModelError, match="a model that is in memory is not quantized"):
        wrap(settings, tiny.llama(), loaded.tokenizer)
    with pytest.raises(ValueError, match="quantize has no float64"):
        ModelSettings(path=path, quantize="nf4", precision="float64")
    (adapter / "twofold.json").unlink(missing_ok=True)
    (adapter / RECORD).write_text('{"quantize": "nf4"}')
    with pytest.raises(ModelError):
        load_model(ModelSettings(path=str(adapter)))


def test_without_bitsandbytes_the_message_names_the_extra(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    settings = ModelSettings(path=path, quantize="nf4", lora=LoRA(rank=2))
    for load in (load_policy, model_size):
        with pytest.raises(ModelError, match=r"bitsandbytes is not installed\n  → pip install 'twofold\[quantized\]'"):
            load(settings)
