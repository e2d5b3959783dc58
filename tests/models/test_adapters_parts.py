"""Adapters by their parts: names of weights, rows of tokens, tied heads, kinds of models, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.errors import ModelError
from twofold.models import adapters
from twofold.models.adapters import (
    REFERENCE_ADAPTER,
    LoRA,
    adapter_pairs,
    adapter_task,
    attach_adapter,
    base_and_adapter,
    copy_adapter,
    is_classifier,
    saved_by,
)
from twofold.models.load import ModelSettings
from twofold.models.tokenizers import Added, grow


def config_of(**lora: Any) -> Any:
    adapter = attach_adapter(tiny.llama(), ModelSettings(path="here", lora=LoRA(rank=2, **lora)), 0)
    assert adapter is not None
    return adapter.peft_config["default"]


def test_every_option_is_handed_to_peft() -> None:
    plain, all_of_them = config_of(), config_of(alpha=3.0, rslora=True, dora=True, modules_to_save=("norm",))
    assert (plain.use_rslora, plain.use_dora, plain.modules_to_save, plain.lora_dropout) == (False, False, None, 0.0)
    assert (plain.ensure_weight_tying, plain.trainable_token_indices, plain.lora_alpha) == (False, None, 32.0)
    assert (all_of_them.use_rslora, all_of_them.use_dora, all_of_them.lora_alpha) == (True, True, 3.0)
    assert (all_of_them.modules_to_save, all_of_them.base_model_name_or_path) == (["model.norm"], "here")
    model = tiny.gpt2()
    transposed = attach_adapter(model, ModelSettings(path="here", lora=LoRA(rank=2)), 0, "SEQ_CLS")
    assert transposed is not None
    assert transposed.peft_config["default"].fan_in_fan_out
    assert transposed.peft_config["default"].task_type == "SEQ_CLS"


def test_what_is_trained_whole_is_float32_at_least_by_whole_names() -> None:
    model: Any = tiny.llama().to(torch.bfloat16)
    model.model.norm.count = torch.nn.Parameter(torch.ones(1, dtype=torch.int64), requires_grad=False)
    adapters._widen(model, "norm")
    wide = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert wide == {"model.norm.weight"}
    assert model.model.norm.count.dtype == torch.int64
    adapters._widen(model.double(), "norm")
    assert model.model.norm.weight.dtype == torch.float64


def test_embeddings_and_a_tied_head_by_name() -> None:
    plain, tied = tiny.llama(), tiny.llama(tie_word_embeddings=True)
    assert adapters._embeddings(plain) == ["model.embed_tokens", "lm_head"]
    assert adapters._tied_head(plain, ["lm_head"]) == ""
    assert [adapters._tied_head(tied, [name]) for name in ("model.embed_tokens", "lm_head", "model.norm")] == [
        "lm_head", "lm_head", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tied", "layers"), [(False, ["model.embed_tokens", "lm_head"]), (True, ["model.embed_tokens"])]
)
def test_rows_of_added_tokens_are_trained_where_they_are(tied: bool, layers: list[str]) -> None:
    model = tiny.llama(tie_word_embeddings=tied)
    grow(model, Added([61, 62], [61, 62]))
    settings = ModelSettings(path="m", lora=LoRA(rank=2), add_tokens=("a", "b"), train_tokens=True)
    assert adapters._rows_to_train(model, settings) == {name: [61, 62] for name in layers}
    assert adapters._rows_to_train(model, ModelSettings(path="m")) is None
    both = ModelSettings(
        path="m", lora=LoRA(rank=2, modules_to_save=("embed_tokens",)), add_tokens=("a",), train_tokens=True
    )
    with pytest.raises(ModelError) as error:
        attach_adapter(model, both, 0)
    assert str(error.value) == (
        "model.lora.modules_to_save: trains the embeddings whole, and train_tokens some of their rows\n"
        "  → take one of the two"
    )


def test_a_copy_is_frozen_and_flags_and_the_random_state_stay() -> None:
    policy = tiny.lora_policy(moved=True)
    adapter: Any = policy.adapter
    first = next(iter(policy.trainable()))
    dict(policy.model.named_parameters())[first].requires_grad_(False)
    flags = {name: p.requires_grad for name, p in adapter.base_model.named_parameters()}
    state = torch.get_rng_state()
    copy_adapter(adapter)
    assert torch.equal(torch.get_rng_state(), state)
    after = {name: p.requires_grad for name, p in adapter.base_model.named_parameters()}
    assert {name: flag for name, flag in after.items() if f".{REFERENCE_ADAPTER}." not in name} == flags
    assert not any(flag for name, flag in after.items() if f".{REFERENCE_ADAPTER}." in name)
    pairs = adapter_pairs(adapter)
    assert len(pairs) == len(policy.trainable()) == sum(flags.values())
    assert all(torch.equal(copy, mine) and copy is not mine for copy, mine in pairs.values())
    with torch.no_grad():
        for _, mine in pairs.values():
            mine.add_(1.0)
    copy_adapter(adapter)
    assert all(torch.equal(copy, mine) for copy, mine in adapter_pairs(adapter).values())


def test_an_adapters_folder_tells_its_task_base_and_saved_modules(tmp_path: Path) -> None:
    tr.LlamaConfig(**tiny.DECODER).save_pretrained(tmp_path / "base")
    folder = tmp_path / "adapter"
    folder.mkdir()

    def written(**fields: Any) -> str:
        known = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "base"), **fields}
        (folder / "adapter_config.json").write_text(json.dumps(known), encoding="utf-8")
        return str(folder)

    assert (adapter_task(written(task_type="SEQ_CLS")), is_classifier(str(folder))) == ("SEQ_CLS", True)
    assert (adapter_task(written(task_type="CAUSAL_LM")), is_classifier(str(folder))) == ("CAUSAL_LM", False)
    assert base_and_adapter(str(folder)) == (str(tmp_path / "base"), str(folder))
    assert saved_by(written(modules_to_save=["lm_head", "norm"])) == ("lm_head", "norm")
    assert (saved_by(written()), saved_by(None), saved_by(str(tmp_path / "base"))) == ((), (), ())


def test_a_classifier_is_looked_up_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    config = tr.PreTrainedConfig(architectures=["LlamaForSequenceClassification"])
    monkeypatch.setattr(adapters, "config_at", lambda *named: asked.append(named) or config)
    assert is_classifier("org/m", "r1")
    with pytest.raises(ModelError, match="is a reward model") as error:
        adapters.refuse_classifier("org/m", "r2")
    assert error.value.where == "org/m"
    config.architectures = None
    assert not is_classifier("org/m")
    assert asked == [("org/m", "r1"), ("org/m", "r2"), ("org/m", None)]
