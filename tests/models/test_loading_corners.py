"""Corners of loading and saving: devices, models in memory, shards that are written, errors as one message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from support import tiny
from twofold.errors import ModelError
from twofold.models import load, loadable
from twofold.models.adapters import LoRA
from twofold.models.heads import wrap_reward_model
from twofold.models.load import ModelSettings, load_weights, resolve_device, save_policy, wrap
from twofold.models.loadable import readable, refuse_other_weights
from twofold.models.policy import Policy
from twofold.models.quantized import Quantization


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(ModelError) as refused:
        resolve_device("abacus")
    assert str(refused.value) == "model.device: 'abacus' is no device\n  → set model.device to auto, cpu or cuda"


@pytest.mark.parametrize("make", [wrap, wrap_reward_model])
def test_a_model_in_memory_gets_rows_and_arguments(make: Any) -> None:
    tokenizer: Any = tiny.tokenizer()
    tokenizer.eos_token, tokenizer.chat_template = "2", "{{ tone }}"
    settings = ModelSettings(path="m", add_tokens=("<a>",), template_arguments={"tone": "x"})
    held, loaded = make(settings, tiny.llama(), tokenizer)
    assert loaded.tokenizer.chat_template.startswith('{% if tone is not defined %}{% set tone = "x" %}{% endif %}')
    assert loaded.tokenizer.encode("<a>") == [61]
    assert held.model.get_input_embeddings().weight.shape == (62, 32)


def test_a_model_in_memory_has_no_bits_in_words() -> None:
    with pytest.raises(ModelError) as refused:
        wrap(ModelSettings(path="m", quantize="nf4", lora=LoRA()), tiny.llama(), tiny.tokenizer())
    assert str(refused.value) == (
        "model.quantize: a model that is in memory is not quantized\n"
        "  → name its folder as model.path, or leave model.quantize out"
    )


class Auto:
    """An auto class whose model is already there."""

    def __init__(self) -> None:
        self.model: Any = tiny.llama()

    def from_pretrained(self, path: str, **how: Any) -> tuple[Any, dict[str, Any]]:
        return self.model, {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": []}


@pytest.mark.parametrize("bits", [False, True])
def test_only_plain_weights_are_moved_to_the_device(bits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in bits are loaded where they belong. The device `meta` here, as there need be no GPU."""
    how = Quantization("nf4", torch.float32, ())
    monkeypatch.setattr(load, "resolve_device", lambda device: "meta")
    monkeypatch.setattr(load, "config_at", lambda *named: tiny.llama().config)
    monkeypatch.setattr(load, "dtype_on_disk", lambda *named: torch.float16)
    monkeypatch.setattr(Quantization, "recorded", lambda adapter: how if bits else None)
    monkeypatch.setattr(Quantization, "config", lambda self: "config")
    auto: Any = Auto()
    model = load_weights(ModelSettings(path="org/m", precision="float32"), "org/m", auto, adapter="a")
    assert model.device.type == ("cpu" if bits else "meta")


class Adapter:
    """A wrapper of PEFT that records what is saved of it."""

    def __init__(self, trains: Any, weights: dict[str, Any]) -> None:
        self.peft_config = {"default": SimpleNamespace(trainable_token_indices=trains)}
        self.calls: list[Any] = []
        self.known = weights

    def save_pretrained(self, folder: str, **how: Any) -> None:
        self.calls.append((folder, how))

    def state_dict(self, *, keep_vars: bool) -> dict[str, Any]:
        assert keep_vars
        return self.known


@pytest.mark.parametrize(
    ("rows", "trains", "embeddings"),
    [([], None, "auto"), ([], {"a": [1]}, "auto"), ([61], None, True), ([61], {"a": [61]}, False)],
)
def test_of_adapters_the_trained_one_is_saved(
    rows: list[int], trains: Any, embeddings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the embeddings if there are new rows that it does not train."""
    adapter = Adapter(trains, {})
    monkeypatch.setattr(load, "added_rows", lambda model: rows)
    monkeypatch.setattr(load, "quantization_of", lambda model: None)
    policy: Any = SimpleNamespace(adapter=adapter, model="model")
    weights: Any = {"w": 1}
    load._save_weights(policy, tmp_path / "out", weights)
    how = {"selected_adapters": ["default"], "save_embedding_layers": embeddings, "state_dict": weights}
    assert adapter.calls == [(str(tmp_path / "out"), how)]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
def test_shards_are_gathered_one_by_one(adapted: bool, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an adapter without the frozen weights of layers; of a whole model in the dtype of its base, on disk."""
    frozen, trained, outside = (torch.nn.Parameter(torch.ones(1), requires_grad=n == 1) for n in range(3))
    weights = {"frozen": frozen, "trained": trained, "outside": outside}
    layer = torch.nn.ParameterList([frozen, trained])
    log: list[Any] = []
    model: Any = SimpleNamespace(state_dict=lambda *, keep_vars: weights)
    policy: Any = SimpleNamespace(adapter=Adapter(None, weights) if adapted else None, model=model)

    @contextmanager
    def context(name: Any) -> Iterator[Any]:
        log.append(f"in {name}")
        yield lambda value: f"file of {value}"
        log.append(f"out of {name}")

    def tensors(known: Any, put: Any = None) -> Any:
        return {name: put(name, "w") if put else None for name in known}

    monkeypatch.setattr(load, "layers", lambda model: [layer])
    monkeypatch.setattr(load, "_as_trained", lambda policy: context("masters"))
    monkeypatch.setattr(load, "on_disk", context)
    monkeypatch.setattr(load, "stored_dtype", lambda model: torch.float16)
    monkeypatch.setattr(load, "casts", lambda model, dtype: lambda name, value: f"{name} in {dtype}")
    monkeypatch.setattr(load, "whole_tensors", tensors)
    monkeypatch.setattr(load, "world", lambda: SimpleNamespace(first=first))
    with ExitStack() as stack:
        gathered: Any = load._gathered(policy, Path("parts"), stack)
        assert log == ["in masters", *["in parts"] * first, "out of masters"]
    names = ["trained", "outside"] if adapted else ["frozen", "trained", "outside"]
    cast = dict.fromkeys(names, "file of w") if adapted else {n: f"file of {n} in torch.float16" for n in names}
    assert gathered == (cast if first else dict.fromkeys(names))


def test_a_model_in_shards_is_written_from_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    monkeypatch.setattr(load, "is_sharded", lambda policy: True)
    monkeypatch.setattr(load, "_gathered", lambda policy, folder, stack: log.append(folder) or "gathered")
    monkeypatch.setattr(
        load, "_save_weights", lambda policy, folder, weights: log.append((folder, weights, folder.mkdir()))
    )
    save_policy(tiny.policy(), tiny.tokenizer(), tmp_path / "out")
    assert log == [tmp_path / "out.parts.tmp", (tmp_path / "out.tmp", "gathered", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("narrow", [True, False])
def test_masters_are_written_unless_the_base_is_in_bfloat16(narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(tiny.llama(), autocast=torch.bfloat16)
    name = "model.layers.0.mlp.up_proj.weight"
    before = policy.trainable()[name].detach().clone()
    policy.keep_masters()
    monkeypatch.setattr(load, "stored_dtype", lambda model: torch.bfloat16 if narrow else torch.float32)
    with load._as_trained(policy):
        assert torch.equal(policy.trainable()[name], before) is not narrow


@pytest.mark.parametrize("error", [TypeError("odd\nmore"), AttributeError("odd"), SafetensorError("odd")])
def test_errors_of_libraries_are_one_message(error: Exception) -> None:
    with pytest.raises(ModelError) as refused, readable("org/m"):
        raise error
    assert str(refused.value) == (
        "org/m: odd\n  → no folder 'org/m' here: check the path, or the hub name and your connection"
    )


def test_errors_of_twofold_itself_stay_what_they_are() -> None:
    cases: list[tuple[type[Exception], Any]] = [(TypeError, None), (AttributeError, SimpleNamespace())]
    for kind, argument in cases:
        with pytest.raises(kind), readable("org/m"):
            loadable._first(argument) if kind is TypeError else loadable.refuse_ids(argument, 1, "")
    with pytest.raises(ModelError, match="a file lacks 'missing_keys'"), readable("org/m"):
        refuse_other_weights(tiny.llama(), {}, "")


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({}, ""), ({"missing_keys": {"b"}}, "lacks weights that a LlamaForCausalLM has: b"),
        ({"missing_keys": {"c", "b", "a"}}, "lacks weights that a LlamaForCausalLM has: a and 2 more"),
        ({"mismatched_keys": {("b", (1, 2), (3, 4)), ("c", (5,), (6,))}}, 
         "b is [1, 2], and config.json makes it [3, 4]"),
        ({"unexpected_keys": {"model.layers.3.a", "model.layers.2.b"}},
         "holds more layers than config.json names: model.layers.2.b and 1 more"),
        ({"unexpected_keys": {"layers.2.b"}}, "holds more layers than config.json names: layers.2.b"),
        ({"unexpected_keys": {"other.2.b", "lm_head.bias", "rotary.inv_freq"}}, ""),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(keys: dict[str, Any], what: str) -> None:
    model: Any = tiny.llama()
    info = {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": [], **keys}
    if not what:
        refuse_other_weights(model, info, "here")
        return
    with pytest.raises(ModelError) as refused:
        refuse_other_weights(model, info, "here")
    assert str(refused.value) == f"here: {what}\n  → the folder is of another model, or damaged: check it"
