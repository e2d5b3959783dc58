"""What a sharded model is set to before each backward pass, on modules that record what FSDP2 would be set to."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from twofold.models.fsdp import _prefetch, before_backward, shard, whole
from twofold.world import SHARDS, WorldSettings, is_sharded


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


def test_one_process_shards_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    shard(model, [model[0]], ("shard", "cpu"))
    assert not is_sharded(model)
    assert not hasattr(model, SHARDS)
