"""The layers of a model, its state dict where all of its weights are there, and what is done to one in shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from twofold.models import sharding
from twofold.models.parts import ROOT
from twofold.models.policy import Policy
from twofold.models.sharding import in_shards, layers, shard_model, weights_here, whole_model
from twofold.world import WorldSettings


def test_layers_are_the_outermost_repeated_ones() -> None:
    model: Any = tiny.llama()
    assert layers(model) == list(model.model.layers)
    inner = type(model.model.layers[0])(model.config, 0)
    model.model.layers[0].further = inner
    assert layers(model) == list(model.model.layers)
    model._no_split_modules = ["LlamaMLP"]
    assert layers(model) == list(model.model.layers)
    assert layers(nn.Sequential(nn.Linear(1, 1))) == []  # type: ignore[arg-type]  # no layer is known


def test_layers_are_those_that_a_class_names() -> None:
    class Named(nn.Module):
        _no_split_modules = ("Linear",)

        def __init__(self) -> None:
            super().__init__()
            self.a, self.ab = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1), nn.ReLU())

    model: Any = Named()
    assert layers(model) == [model.a, model.ab[0]]


def test_the_weights_here_are_those_of_a_state_dict() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("own", torch.ones(1))
    model[0].register_buffer("passing", torch.ones(1), persistent=False)
    model.add_module("tied", model[0])
    here, want = weights_here(model), model.state_dict()
    assert here.keys() == want.keys()
    assert all(torch.equal(here[name], value) and not here[name].requires_grad for name, value in want.items())


def test_a_model_is_whole_inside_the_context_by_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[Any] = []

    @contextmanager
    def whole(root: Any) -> Iterator[None]:
        roots.append(root)
        yield
        roots.append("end")

    monkeypatch.setattr(sharding, "whole", whole)
    model, other = tiny.llama(), tiny.llama()
    object.__setattr__(model, ROOT, lambda: "root")
    assert (in_shards(model), in_shards(other)) == (True, False)
    for each in (model, other):
        with whole_model(each):
            assert roots == ["root"] or each is other
    assert roots == ["root", "end"]


@pytest.mark.parametrize(
    ("size", "kind", "sharded"), [(2, "shard", True), (1, "shard", False), (2, "replicate", False)]
)
def test_a_model_is_sharded_with_its_settings(
    size: int, kind: Any, sharded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a `shard` that records its arguments, and does nothing."""
    calls: list[Any] = []
    monkeypatch.setattr(sharding, "world", lambda: SimpleNamespace(size=size))
    monkeypatch.setattr(sharding, "shard", lambda *arguments: calls.append(arguments))
    policy, how = Policy(tiny.llama()), WorldSettings(prefetch=2)
    shard_model(policy, kind, how)
    assert calls == ([(policy, layers(policy.model), (kind, "cpu"), how, None)] if sharded else [])
    assert not in_shards(policy.model)


@pytest.mark.parametrize("masters", [True, False])
def test_masters_are_made_again_of_the_shards(masters: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(sharding, "world", lambda: SimpleNamespace(size=2))
    monkeypatch.setattr(sharding, "shard", lambda *arguments: done.append("shard"))
    policy = Policy(tiny.llama())
    monkeypatch.setattr(policy, "drop_masters", lambda: done.append("drop") or masters)
    monkeypatch.setattr(policy, "keep_masters", lambda: done.append("keep"))
    shard_model(policy, "shard")
    assert done == ["drop", "shard", *["keep"] * masters]
