"""New tokens: rows that begin as an average token, trained where that is asked for, and written with the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr
from peft import PeftModel
from torch import Tensor

from support import tiny
from twofold.errors import ModelError
from twofold.models.adapters import LoRA
from twofold.models.export import export_model
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy
from twofold.models.model_size import model_size
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference

NEW = ("<think>", "</think>")
ROWS = [tiny.VOCABULARY, tiny.VOCABULARY + 1]
GROUPS = [  # both new tokens stand in a prompt and in an answer, one after the other and before others
    replace(g, prompt=torch.cat([g.prompt, torch.tensor(ROWS)]), branches=tuple(
        replace(b, tokens=torch.cat([b.tokens[:1], torch.tensor(ROWS), b.tokens[1:]])) for b in g.branches
    )) for g in tiny.groups((5, 4, 6), (12, 7, 9))
]  # fmt: skip


def base(folder: Path, **changes: Any) -> str:
    tiny.llama(**changes).save_pretrained(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    tokenizer.save_pretrained(folder)
    return str(folder)


def embeddings(model: Any) -> tuple[Tensor, Tensor]:
    return model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()


def logps(policy: Policy) -> Tensor:
    return torch.cat([x for row in policy.logps(GROUPS) for x in row])


def learn(policy: Policy) -> None:
    """Two steps of plain gradient on all that is trained."""
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        (-policy(GROUPS)[0].logp_S.mean()).backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@pytest.mark.parametrize("load", [load_model, load_policy, load_reward_model])
def test_rows_are_the_mean_of_the_others(load: Any, tied: bool, tmp_path: Path) -> None:
    path = base(tmp_path, tie_word_embeddings=tied)
    before = embeddings(load_model(ModelSettings(path=path)).model)
    loaded = load(ModelSettings(path=path, add_tokens=NEW))
    loaded = loaded[1] if isinstance(loaded, tuple) else loaded
    assert [loaded.tokenizer.encode(token) for token in NEW] == [[i] for i in ROWS]
    assert loaded.model.config.vocab_size == tiny.VOCABULARY + 2
    heads = [loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()]
    for head, old in zip(heads, before, strict=True):
        if head is None:  # a reward model says nothing
            continue
        torch.testing.assert_close(head.weight[:-2], old, rtol=0, atol=0)
        torch.testing.assert_close(head.weight[-2:], old.mean(0).expand(2, -1))
    if heads[1] is not None:
        assert (heads[0].weight.data_ptr() == heads[1].weight.data_ptr()) == tied


def test_rows_that_the_model_has_to_spare_are_taken_first(tmp_path: Path) -> None:
    path = base(tmp_path, vocab_size=tiny.VOCABULARY + 8)
    model = load_model(ModelSettings(path=path, add_tokens=NEW)).model
    inputs, _ = embeddings(model)
    assert len(inputs) == tiny.VOCABULARY + 8
    torch.testing.assert_close(inputs[ROWS], inputs[: tiny.VOCABULARY].mean(0).expand(2, -1))


def test_a_token_that_is_known_changes_nothing(tmp_path: Path) -> None:
    path = base(tmp_path)
    assert len(embeddings(load_model(ModelSettings(path=path, add_tokens=("7",))).model)[0]) == tiny.VOCABULARY


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@pytest.mark.parametrize("train", [False, True], ids=["frozen", "trained"])
def test_an_adapter_trains_the_rows_only_where_asked_and_comes_back(train: bool, tied: bool, tmp_path: Path) -> None:
    path = base(tmp_path / "base", tie_word_embeddings=tied)
    settings = ModelSettings(path=path, add_tokens=NEW, lora=LoRA(rank=2), train_tokens=train, precision="float32")
    policy, loaded = load_policy(settings)
    fresh = logps(policy)
    inputs = policy.model.get_input_embeddings()
    first = inputs(torch.arange(tiny.VOCABULARY + 2)).detach().clone()  # type: ignore[operator]  # a module
    learn(policy)
    moved = (inputs(torch.arange(tiny.VOCABULARY + 2)) - first).abs().amax(1)  # type: ignore[operator]
    assert bool((moved[-2:] > 1e-6).all()) == train
    assert moved[:-2].max() == 0
    heads = [name for name in policy.trainable() if "lm_head" in name]
    assert bool(heads) == (train and not tied)
    reference = torch.cat([x for row in live_reference(policy).logps(GROUPS, Packing()) for x in row])
    torch.testing.assert_close(reference, fresh)
    trained = logps(policy)
    assert (trained - fresh).abs().max() > 1e-4
    save_policy(policy, loaded.tokenizer, tmp_path / "model")
    again = load_model(ModelSettings(path=str(tmp_path / "model"), precision="float32"))
    torch.testing.assert_close(logps(Policy(again.model)), trained, rtol=1e-4, atol=1e-4)
    export_model(tmp_path / "model", tmp_path / "out")
    plain: Any = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logps(Policy(plain)), trained, rtol=1e-4, atol=1e-4)
    assert [tr.AutoTokenizer.from_pretrained(tmp_path / "out").encode(token) for token in NEW] == [[i] for i in ROWS]
    other: Any = tr.AutoModelForCausalLM.from_pretrained(path)
    other.resize_token_embeddings(tiny.VOCABULARY + 2, mean_resizing=False)
    merged: Any = PeftModel.from_pretrained(other, tmp_path / "model").merge_and_unload()  # type: ignore[operator]
    torch.testing.assert_close(logps(Policy(merged)), trained, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
def test_full_training_trains_them_and_writes_them(tied: bool, tmp_path: Path) -> None:
    path = base(tmp_path / "base", tie_word_embeddings=tied)
    policy, loaded = load_policy(ModelSettings(path=path, add_tokens=NEW, precision="float32"))
    first = embeddings(policy.model)[0].clone()
    learn(policy)
    assert (embeddings(policy.model)[0] - first).abs().amax(1)[-2:].min() > 0
    save_policy(policy, loaded.tokenizer, tmp_path / "model")
    plain: Any = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logps(Policy(plain)), logps(policy))
    on = load_model(ModelSettings(path=str(tmp_path / "model"), add_tokens=NEW))
    torch.testing.assert_close(embeddings(on.model)[0], embeddings(policy.model)[0])


def test_a_dry_run_counts_the_rows(tmp_path: Path) -> None:
    settings = ModelSettings(path=base(tmp_path), add_tokens=NEW, lora=LoRA(rank=2), train_tokens=True)
    policy, _ = load_policy(settings)
    assert model_size(settings).trainable == sum(p.numel() for p in policy.trainable().values())


def test_what_is_no_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^model\.add_tokens: ' ' is no token\n  → name tokens of"):
        load_model(ModelSettings(path=base(tmp_path), add_tokens=(" ",)))
    with pytest.raises(ValueError, match="train_tokens asks for lora and add_tokens"):
        ModelSettings(path="here", train_tokens=True)
