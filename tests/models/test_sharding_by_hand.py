"""Sharding by hand: what a sharded model is shown, and the precision that its parts take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils import _pytree

from support import tiny
from twofold.batch import Outputs, Routing
from twofold.models import sharding
from twofold.models.fsdp import Precision
from twofold.models.parts import ROOT
from twofold.models.policy import Policy
from twofold.models.sharding import shard_model


def test_casts_become_the_precision_of_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(sharding, "world", lambda: SimpleNamespace(size=2))
    monkeypatch.setattr(sharding, "shard", lambda *arguments: calls.append(arguments))
    policy = tiny.lora_policy(dtype=torch.float32, cast=torch.bfloat16)
    shard_model(policy, "hybrid")
    ((root, layers, among, how, precision),) = calls
    assert (root, layers, among, how) == (policy, sharding.layers(policy.model), ("hybrid", "cpu"), None)
    assert precision == Precision(torch.bfloat16, [])
    assert policy._device == torch.device("cpu")


def test_a_sharded_model_is_called_once_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """FSDP2 makes the module that is called first the root."""
    policy, done = Policy(tiny.llama()), list[Any]()
    monkeypatch.setattr(sharding, "world", lambda: SimpleNamespace(size=2))
    monkeypatch.setattr(sharding, "shard", lambda *arguments: done.append("shard"))
    monkeypatch.setattr(sharding, "is_sharded", lambda model: "shard" in done)
    monkeypatch.setattr(sharding, "settle", lambda model: done.append("settle"))
    monkeypatch.setattr(
        policy, "forward", lambda groups: done.append((len(groups), torch.is_grad_enabled(), groups[0].name))
    )
    shard_model(policy, "shard")
    assert done == ["shard", (1, False, "trial 0"), "settle"]
    assert getattr(policy.model, ROOT)() is policy
    shard_model(policy, "shard")
    assert len(done) == 3, "a model is sharded once"
    assert {Outputs, Routing} <= _pytree.SUPPORTED_NODES.keys()
    sharding._show_outputs()
