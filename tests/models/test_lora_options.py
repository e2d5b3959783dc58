"""Every option of an adapter: it begins as the base exactly, computes what PEFT computes, and can be handed on."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr
from peft import PeftModel
from torch import Tensor, nn

from support import tiny
from support.architectures import EXPERTS
from support.families import build
from twofold.errors import ModelError
from twofold.models.adapters import (
    REFERENCE_ADAPTER,
    LoRA,
    _no_word_on_ties,
    adapter_pairs,
    attach_adapter,
    copy_adapter,
)
from twofold.models.export import export_model
from twofold.models.load import ModelSettings, load_policy, save_policy
from twofold.models.policy import Policy

GROUPS = tiny.pairs(5)
OPTIONS: dict[str, dict[str, Any]] = {
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "head": {"modules_to_save": ("lm_head",)},
    "embeddings": {"modules_to_save": ("embed_tokens", "norm")},
    "exclude": {"exclude": ("mlp", "layers.0")},
    "all": {"rslora": True, "dora": True, "exclude": ("q_proj",), "modules_to_save": ("embed_tokens", "lm_head")},
}
Made = Callable[..., tr.PreTrainedModel]


def stored(model: tr.PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "5"
    tokenizer.save_pretrained(folder)
    return str(folder)


def logps(policy: Policy) -> Tensor:
    return torch.cat([x for row in policy.logps(GROUPS) for x in row])


def reference(policy: Policy, adapter: str | None = None) -> Tensor:
    with policy.as_reference(adapter):
        return logps(policy)


@torch.no_grad()
def alone(model: Any) -> Tensor:
    """As transformers and PEFT compute rows, one by one."""
    return torch.cat([x for group in GROUPS for x in tiny.alone(model, group)])


@pytest.mark.parametrize("sharing", ["shared", "rows"])
@pytest.mark.parametrize(("precision", "bound"), [("float32", 2e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_begins_as_the_base_and_computes_what_peft_computes(
    options: dict[str, Any], precision: Any, bound: float, sharing: Any, tmp_path: Path
) -> None:
    path = stored(tiny.llama(), tmp_path / "base")
    dtype = torch.float64 if precision == "float64" else torch.float32
    settings = ModelSettings(path=path, precision=precision, sharing=sharing, lora=LoRA(rank=3, **options))
    policy, loaded = load_policy(settings)
    base: Any = tr.AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    first = logps(policy)
    assert torch.equal(reference(policy), first)
    torch.testing.assert_close(first, alone(base), rtol=0, atol=bound)
    tiny.learn(policy)
    assert (logps(policy) - first).abs().max() > 1
    assert torch.equal(reference(policy), first)  # modules that are trained whole step aside as well
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(logps(policy), alone(theirs), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_in_bfloat16_it_begins_as_the_base_too_and_trains_in_float32(
    options: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    """PEFT's own DoRA is 0.07 nats off there: magnitudes and norms are rounded apart."""
    model: Any = tiny.llama()
    path = stored(model.to(dtype), tmp_path)
    policy, _ = load_policy(ModelSettings(path=path, precision="bfloat16", lora=LoRA(rank=3, **options)))
    assert policy.autocast == torch.bfloat16
    first = logps(policy)
    assert torch.equal(reference(policy), first)
    assert {p.dtype for p in policy.trainable().values()} == {torch.float32}
    tiny.learn(policy)
    assert (logps(policy) - first).abs().max() > 1
    assert torch.equal(reference(policy), first)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_goes_on_and_is_exported(options: dict[str, Any], tmp_path: Path) -> None:
    path = stored(tiny.llama(), tmp_path / "base")
    policy, loaded = load_policy(ModelSettings(path=path, precision="float32", lora=LoRA(rank=3, **options)))
    tiny.learn(policy)
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    again, tokenizer = load_policy(ModelSettings(path=path, precision="float32", adapter=str(tmp_path / "adapter")))
    trained = logps(again)
    assert torch.equal(trained, logps(policy))
    assert again.trainable().keys() == policy.trainable().keys()
    tiny.learn(again)
    assert torch.equal(reference(again, REFERENCE_ADAPTER), trained)
    save_policy(again, tokenizer.tokenizer, tmp_path / "further")
    export_model(tmp_path / "further", tmp_path / "whole")
    whole = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(alone(whole), logps(again), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["embeddings", "head"])
@pytest.mark.parametrize(
    ("make", "embeddings"),
    [(lambda: tiny.llama(tie_word_embeddings=True), "embed_tokens"), (tiny.gpt2, "wte")],
    ids=["llama", "gpt2"],
)
def test_tied_embeddings_are_trained_as_one_weight(make: Made, embeddings: str, name: str, tmp_path: Path) -> None:
    """Also where PEFT alone, or a second run, loads the adapter."""
    path = stored(make(), tmp_path / "base")
    saved = (embeddings if name == "embeddings" else "lm_head",)
    policy, loaded = load_policy(
        ModelSettings(path=path, precision="float32", lora=LoRA(rank=2, modules_to_save=saved))
    )
    first = logps(policy)
    assert sum("modules_to_save" in trained for trained in policy.trainable()) == 1
    tiny.learn(policy)
    assert torch.equal(reference(policy), first)
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(tr.AutoModelForCausalLM.from_pretrained(path), tmp_path / "adapter").eval()
    torch.testing.assert_close(alone(theirs), logps(policy), rtol=0, atol=1e-5)
    again, _ = load_policy(ModelSettings(path=path, precision="float32", adapter=str(tmp_path / "adapter")))
    assert again.trainable().keys() == policy.trainable().keys()
    trained = logps(again)
    tiny.learn(again)
    assert torch.equal(reference(again, REFERENCE_ADAPTER), trained)
    assert torch.equal(reference(again), first)
    save_policy(again, loaded.tokenizer, tmp_path / "further")
    export_model(tmp_path / "further", tmp_path / "whole")
    whole: Any = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    torch.testing.assert_close(alone(whole), logps(again), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [OPTIONS["dora"], OPTIONS["embeddings"], OPTIONS["all"]])
def test_a_copy_of_the_adapter_is_whole(options: dict[str, Any], tmp_path: Path) -> None:
    """What a moving reference is."""
    path = stored(tiny.llama(tie_word_embeddings=True), tmp_path)
    policy, _ = load_policy(ModelSettings(path=path, precision="float32", lora=LoRA(rank=2, **options)))
    adapter = policy.adapter
    assert adapter is not None
    copy_adapter(adapter)
    tiny.learn(policy)
    with torch.no_grad():
        for copied, trained in adapter_pairs(adapter).values():
            copied.copy_(trained)
    assert torch.equal(reference(policy, REFERENCE_ADAPTER), logps(policy))
    assert not any(REFERENCE_ADAPTER in name for name in policy.trainable())


def test_rslora_divides_by_the_root_of_the_rank(tmp_path: Path) -> None:
    path = stored(tiny.llama(), tmp_path)
    for rslora, expected in ((False, 18 / 9), (True, 18 / math.sqrt(9))):
        policy, _ = load_policy(ModelSettings(path=path, lora=LoRA(rank=9, alpha=18.0, rslora=rslora)))
        layers: list[Any] = [module for module in policy.modules() if hasattr(module, "lora_A")]
        assert {layer.scaling["default"] for layer in layers} == {expected}


def test_what_is_trained_is_what_is_named(tmp_path: Path) -> None:
    path = stored(tiny.llama(), tmp_path)
    lora = LoRA(rank=2, exclude=("mlp", "layers.0.self_attn.q_proj"), modules_to_save=("norm",), dora=True)
    trained = load_policy(ModelSettings(path=path, lora=lora))[0].trainable()
    layers = {name.split(".lora_")[0] for name in trained if ".lora_" in name}
    attention = [f"model.layers.{i}.self_attn.{n}_proj" for i in (0, 1) for n in "qkvo"]
    assert layers == set(attention) - {"model.layers.0.self_attn.q_proj"}
    others = [name for name in trained if ".lora_" not in name]
    assert others == ["model.norm.modules_to_save.default.weight"]  # and neither layer norm, which end in these letters
    assert sum("magnitude" in name for name in trained) == 7


def test_a_saved_head_is_read_in_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logits are never held at once, as those of a head that is not trained."""
    path = stored(tiny.llama(), tmp_path)
    lora = LoRA(rank=2, modules_to_save=("lm_head",))
    policy, _ = load_policy(ModelSettings(path=path, precision="float32", lora=lora))
    tiny.learn(policy)
    calls: list[nn.Module] = []
    head: Any = policy.model.get_output_embeddings()
    for module in head.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    outputs, _ = policy(GROUPS, ["log_greedy"])
    outputs.logp_S.sum().backward()
    assert calls == []
    assert policy.trainable()["lm_head.modules_to_save.default.weight"].grad is not None


@pytest.mark.parametrize(
    ("options", "where", "words"),
    [
        ({"exclude": ("q_prj",)}, "exclude", "nothing called 'q_prj'\n  → choose from down_proj, gate_proj, k_proj"),
        ({"exclude": ("model",)}, "exclude", "every layer is excluded"),
        ({"modules_to_save": ("head",)}, "modules_to_save", "no module called 'head'\n  → choose from .*lm_head"),
        ({"modules_to_save": ("layers",)}, "modules_to_save", "no module called 'layers'"),
    ],
)
def test_names_that_mean_nothing_are_refused(options: Any, where: str, words: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.lora\.{where}: .*{words}"):
        attach_adapter(tiny.llama(), ModelSettings(path="here", lora=LoRA(rank=2, **options)), seed=0)


@pytest.mark.filterwarnings("ignore:.*target_parameters.*")
def test_experts_can_be_excluded_and_have_no_dora() -> None:
    model = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    lora = LoRA(rank=2, exclude=("experts", "q_proj"))
    attach_adapter(model, ModelSettings(path="here", lora=lora), seed=0)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".lora_")[0].split(".")[-1] for name in names} == {"k_proj", "v_proj", "o_proj"}
    one = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    attach_adapter(one, ModelSettings(path="here", lora=LoRA(rank=2, exclude=("layers.0.mlp.experts",))), seed=0)
    adapted = {name.split(".mlp")[0] for name, p in one.named_parameters() if p.requires_grad and ".experts." in name}
    assert adapted == {"model.layers.1"}
    another = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    with pytest.raises(ModelError, match=r"model\.lora\.dora: PEFT has no DoRA for experts"):
        attach_adapter(another, ModelSettings(path="here", lora=LoRA(rank=2, dora=True)), seed=0)


def test_the_config_of_an_adapter_names_its_options(tmp_path: Path) -> None:
    path = stored(tiny.llama(), tmp_path / "base")
    policy, loaded = load_policy(ModelSettings(path=path, lora=LoRA(**OPTIONS["all"])))
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert (config["use_rslora"], config["use_dora"], config["lora_dropout"]) == (True, True, 0)
    assert sorted(config["modules_to_save"]) == ["lm_head", "model.embed_tokens"]


def test_of_a_second_adapters_warnings_one_alone_is_hidden() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with _no_word_on_ties():
            warnings.warn("set ensure_weight_tying to True", stacklevel=1)
            warnings.warn("the adapter has other layers", stacklevel=1)
    assert [str(each.message) for each in heard] == ["the adapter has other layers"]
