"""What a sharded model is set to before each backward pass, on modules that record what FSDP2 would be set to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed.fsdp as torch_fsdp
from torch import nn

from twofold.models import fsdp
from twofold.models.fsdp import Precision, _prefetch, before_backward, shard, whole
from twofold.world import SHARDS, World, WorldSettings, is_sharded


class Sharded(nn.Module):
    """Has the methods of FSDP2's modules, and records their calls."""

    def __init__(self, calls: list[Any], *children: nn.Module) -> None:
        super().__init__()
        self.calls, self.parts = calls, nn.ModuleList(children)

    def set_is_last_backward(self, last: bool) -> None:
        self.calls.append(("last", last))

    def set_requires_gradient_sync(self, sums: bool) -> None:
        self.calls.append(("sync", sums))

    def set_requires_all_reduce(self, sums: bool) -> None:
        self.calls.append(("all_reduce", sums))

    def set_reshard_after_forward(self, again: bool, recurse: bool = True) -> None:
        self.calls.append((self, "again", again, recurse))

    def unshard(self) -> None:
        self.calls.append((self, "unshard"))

    def reshard(self) -> None:
        self.calls.append((self, "reshard"))

    def set_modules_to_forward_prefetch(self, modules: list[Any]) -> None:
        self.calls.append((self, "forward", modules))

    def set_modules_to_backward_prefetch(self, modules: list[Any]) -> None:
        self.calls.append((self, "backward", modules))


@pytest.mark.parametrize(("reduce", "name"), [("step", "sync"), ("pack", "all_reduce")])
def test_gradients_are_summed_once_per_step_or_with_every_pack(reduce: Any, name: str) -> None:
    calls: list[Any] = []
    root = Sharded(calls)
    object.__setattr__(root, SHARDS, WorldSettings(reduce=reduce))
    for last in (False, True):
        before_backward(root, last=last)
    assert calls == [("last", False), (name, False), ("last", True), (name, True)]
    before_backward(nn.Linear(1, 1), last=True)  # one process: nothing to set


@pytest.mark.parametrize("again", [True, False])
def test_all_weights_are_there_inside_the_context(again: bool) -> None:
    calls: list[Any] = []
    part = Sharded(calls)
    root = Sharded(calls, nn.Linear(1, 1), part)
    object.__setattr__(root, SHARDS, WorldSettings(reshard_after_forward=again))
    with whole(root):
        assert calls == [(m, *call) for m in (root, part) for call in (("again", False, False), ("unshard",))]
        calls.clear()
    own = ((root, False), (part, again))
    assert calls == [(m, *call) for m, back in own for call in (("again", back, False), ("reshard",))]


def test_layers_prefetch_the_next_ones_and_the_previous_ones() -> None:
    calls: list[Any] = []
    a, b, c = layers = [Sharded(calls) for _ in range(3)]
    _prefetch(layers, 2)
    assert calls == [
        (a, "forward", [b, c]), (a, "backward", []), (b, "forward", [c]), (b, "backward", [a]),
        (c, "forward", []), (c, "backward", [b, a]),
    ]  # fmt: skip
    calls.clear()
    _prefetch(layers, 0)
    assert calls == []


class Layer(nn.Module):
    """A module with a weight that can become one of FSDP2's."""

    def __init__(self, calls: list[Any], *children: nn.Module) -> None:
        super().__init__()
        self.calls, self.weight, self.parts = calls, nn.Parameter(torch.ones(1)), nn.ModuleList(children)


class Divided(Layer):
    set_requires_gradient_sync = Sharded.set_requires_gradient_sync
    set_modules_to_forward_prefetch = Sharded.set_modules_to_forward_prefetch
    set_modules_to_backward_prefetch = Sharded.set_modules_to_backward_prefetch

    def set_gradient_divide_factor(self, factor: float) -> None:
        self.calls.append((self, "divide", factor))

    def set_force_sum_reduction_for_comms(self, sums: bool) -> None:
        self.calls.append((self, "sum", sums))


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two processes, and a `fully_shard` that records its calls."""
    calls: list[Any] = []

    def fully_shard(module: Any, **how: Any) -> None:
        assert not is_sharded(module)
        module.__class__ = Divided
        calls.append((module, how))

    monkeypatch.setattr(torch_fsdp, "fully_shard", fully_shard)
    monkeypatch.setattr(fsdp, "world", lambda: World(size=2))
    monkeypatch.setattr(fsdp, "mesh_of", lambda *arguments: arguments)
    return calls


def model_of(calls: list[Any]) -> tuple[Any, list[Any], Any]:
    """A root, its layers and a module that stays wide."""
    wide, a, b = Layer([]), Layer([]), Layer([])
    root = Layer([], wide, a, b, nn.Identity())
    for module in (root, wide, a, b):
        module.calls = calls
    return root, [a, b], wide


def test_wide_modules_and_layers_are_sharded_before_the_rest(divided: list[Any]) -> None:
    root, layers, wide = model_of([])
    how = WorldSettings(reshard_after_forward=False, prefetch=1)
    shard(root, layers, ("hybrid", "cpu"), how, Precision(torch.bfloat16, [wide, nn.Identity()]))
    assert [module for module, _ in divided] == [wide, *layers, root]
    assert {settings["mesh"] for _, settings in divided} == {("hybrid", "cpu", World(size=2))}
    policies = [settings["mp_policy"] for _, settings in divided]
    assert [policy.param_dtype for policy in policies] == [None, *[torch.bfloat16] * 3]
    assert [policy.reduce_dtype for policy in policies] == [None, *[torch.float32] * 3]
    assert {policy.cast_forward_inputs for policy in policies} == {False}
    assert {type(settings["offload_policy"]) for _, settings in divided} == {torch_fsdp.OffloadPolicy}
    assert [settings.get("reshard_after_forward") for _, settings in divided] == [False, False, False, None]
    assert getattr(root, SHARDS) is how
    assert not hasattr(layers[0], SHARDS)
    a, b = layers
    assert root.calls == [
        *((module, *call) for module in (root, wide, a, b) for call in (("divide", 1.0), ("sum", True))),
        (a, "forward", [b]), (a, "backward", []), (b, "forward", []), (b, "backward", [a]),
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_offloaded_is_pinned_for_a_gpu(device: str, divided: list[Any]) -> None:
    root, layers, _ = model_of([])
    shard(root, layers, ("shard", device), WorldSettings(offload=True))
    assert [settings["offload_policy"].pin_memory for _, settings in divided] == [device == "cuda"] * 3
    assert {settings["mp_policy"].reduce_dtype for _, settings in divided} == {None}
    assert {settings["reshard_after_forward"] for _, settings in divided[:-1]} == {True}
    shard(root, layers, ("shard", device))
    assert len(divided) == 3, "a model is sharded once"


def test_replicas_are_not_sharded(divided: list[Any]) -> None:
    root, layers, _ = model_of([])
    shard(root, layers, ("replicate", "cpu"))
    assert divided == []
    shard(root, layers, ("shard", "cpu"))
    assert getattr(root, SHARDS) == WorldSettings()


def test_one_process_shards_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    shard(model, [model[0]], ("shard", "cpu"))
    assert not is_sharded(model)
    assert not hasattr(model, SHARDS)
