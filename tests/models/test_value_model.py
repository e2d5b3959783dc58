"""The value model: its values are the scores that transformers reads off the saved folder, of every prefix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from support import tiny
from support.reward_heads import flat, folder, moved
from twofold.batch import Group
from twofold.models.adapters import LoRA
from twofold.models.attention import stock_attention
from twofold.models.heads import (
    ValueModel,
    load_reward_model,
    load_value_model,
    save_value_model,
    value_model_of,
)
from twofold.models.load import ModelSettings, load_policy, save_policy
from twofold.models.packing import Packing


def groups() -> list[Group]:
    """Without the token of padding, which transformers passes over when it looks for the last one."""

    def named(tokens: Tensor) -> Tensor:
        return tokens.where(tokens != 0, 7)

    made = tiny.groups((3, 4, 2), (5, 1, 6, 3, 3), (2, 7))
    return [
        replace(g, prompt=named(g.prompt), branches=tuple(replace(b, tokens=named(b.tokens)) for b in g.branches))
        for g in made
    ]


def prefixes(groups: list[Group]) -> list[list[int]]:
    """What stands before each token of each completion."""
    branches = [(g.prompt, b.tokens) for g in groups for b in g.branches]
    return [torch.cat([prompt, tokens[:t]]).tolist() for prompt, tokens in branches for t in range(len(tokens))]


def every(held: ValueModel, packing: Packing | None = None) -> Tensor:
    return torch.cat([value for row in held.values(groups(), packing) for value in row]).double()


def shaken(held: ValueModel) -> ValueModel:
    moved(held)  # type: ignore[arg-type]  # it moves what can be trained, of either
    return held


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_values_are_the_saved_folders_scores_of_every_prefix(tmp_path: Path, make: object, lora: LoRA | None) -> None:
    settings = ModelSettings(path=folder(tmp_path, make()), precision="float64", lora=lora)  # type: ignore[operator]  # a maker
    policy, loaded = load_policy(settings, seed=1)
    held, mine = value_model_of(policy, loaded, settings)
    assert held.shared
    ours = every(shaken(held))
    assert ours.std() > 0.01
    save_value_model(held, mine.tokenizer, tmp_path / "value-model")

    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "value-model", dtype="float64").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "value-model")
    batch = tokenizer.pad([{"input_ids": row} for row in prefixes(groups())], return_tensors="pt")
    with torch.no_grad():
        said = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    torch.testing.assert_close(said, ours, rtol=0, atol=1e-10)
    again = load_value_model(ModelSettings(path=str(tmp_path / "value-model"), precision="float64"))[0]
    torch.testing.assert_close(every(again), ours, rtol=0, atol=1e-10)


def test_sharing_and_packing_change_nothing(tmp_path: Path) -> None:
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64")
    found = []
    for sharing, packing in (("auto", Packing()), ("auto", Packing(tokens=1)), ("rows", Packing())):
        policy, loaded = load_policy(settings)
        held, _ = value_model_of(policy, loaded, replace(settings, sharing=sharing))  # type: ignore[arg-type]  # one of its words
        found.append(every(shaken(held), packing))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_a_copy_of_the_policy_says_0_and_is_nobodys_but_its_own(tmp_path: Path, lora: LoRA | None) -> None:
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64", lora=lora)
    policy, loaded = load_policy(settings)
    padding = loaded.tokenizer.pad_token
    held, _ = value_model_of(policy, loaded, settings)
    assert loaded.tokenizer.pad_token == padding
    assert every(held).abs().max() == 0
    rows = groups()
    with torch.no_grad():
        held.model.score.requires_grad_(False)  # type: ignore[union-attr]  # a module
        for name, parameter in held.model.score.named_parameters():  # type: ignore[union-attr]  # a module
            if "original" not in name:
                parameter.fill_(0.1)
    before = held.values(rows)
    moved(policy)  # type: ignore[arg-type]  # it moves what can be trained, of either
    for row, then in zip(held.values(rows), before, strict=True):
        for a, b in zip(row, then, strict=True):
            assert torch.equal(a, b)


def test_the_copy_is_of_the_policy_with_its_adapter(tmp_path: Path) -> None:
    """Where the policy goes on training a user's adapter, the copy starts with it and trains a new one."""
    path = folder(tmp_path, tiny.llama())
    first, loaded = load_policy(ModelSettings(path=path, precision="float64", lora=LoRA(rank=2)))
    moved(first)  # type: ignore[arg-type]  # it moves what can be trained, of either
    save_policy(first, loaded.tokenizer, tmp_path / "adapter")
    settings = ModelSettings(path=path, precision="float64", adapter=str(tmp_path / "adapter"))
    policy, loaded = load_policy(settings)
    held, _ = value_model_of(policy, loaded, settings)
    assert held.adapter is not None
    assert all("lora" in n or "score" in n for n in held.trainable())
    row = torch.cat([groups()[0].prompt, groups()[0].branches[0].tokens])[None]
    with torch.no_grad(), stock_attention(policy.model), stock_attention(held.model):
        mine = policy.model.base_model(input_ids=row, use_cache=False).last_hidden_state
        its = held.model.base_model(input_ids=row, use_cache=False).last_hidden_state
    torch.testing.assert_close(its, mine, rtol=0, atol=1e-10)


def test_it_starts_as_a_reward_model(tmp_path: Path) -> None:
    """The value before the last token is the reward model's score of what stands there."""
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64")
    reward, loaded = load_reward_model(settings, seed=3)
    save_policy(moved(reward), loaded.tokenizer, tmp_path / "rm")
    held, _ = load_value_model(replace(settings, path=str(tmp_path / "rm")))
    assert not held.note
    asked = [replace(g, branches=tuple(b for b in g.branches if len(b.tokens) > 1)) for g in groups()]
    cut = [replace(g, branches=tuple(replace(b, tokens=b.tokens[:-1]) for b in g.branches)) for g in asked]
    last = torch.stack([value[-1] for row in held.values(asked) for value in row])
    torch.testing.assert_close(last, flat(reward.scores(cut)), rtol=0, atol=1e-10)
    assert load_value_model(settings)[0].note
