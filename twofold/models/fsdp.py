"""How FSDP2 shards a model: what each process holds, the precision of communication, and when gradients are summed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from twofold.world import SHARDS, Kind, WorldSettings, is_sharded, mesh_of, world


@dataclass(frozen=True)
class Precision:
    """The dtype in which weights are gathered and compute, if it differs from their own. `wide` modules keep their own.
    Gradients are summed in float32."""

    narrow: torch.dtype | None = None
    wide: Sequence[nn.Module] = ()


def shard(
    root: nn.Module,
    layers: Sequence[nn.Module],
    among: tuple[Kind, str],
    how: WorldSettings | None = None,
    precision: Precision | None = None,
) -> None:
    """Shard the weights of `root` with FSDP2: each of `layers` separately, then the rest. `among` is the kind of
    sharding, which selects the processes, and the device on which they compute."""
    (kind, device), here, how, precision = among, world(), how or WorldSettings(), precision or Precision()
    if here.size == 1 or kind == "replicate" or is_sharded(root):
        return
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    mesh = mesh_of(kind, device, here)
    reduced = None if precision.narrow is None else torch.float32
    own = MixedPrecisionPolicy(cast_forward_inputs=False)
    policy = MixedPrecisionPolicy(precision.narrow, reduced, cast_forward_inputs=False)
    place = CPUOffloadPolicy(pin_memory=device == "cuda") if how.offload else OffloadPolicy()
    wide = [module for module in precision.wide if any(True for _ in module.parameters())]
    for module in (*wide, *layers):
        mixed, again = (policy, own)[module in wide], how.reshard_after_forward
        fully_shard(module, mesh=mesh, mp_policy=mixed, offload_policy=place, reshard_after_forward=again)
    fully_shard(root, mesh=mesh, mp_policy=policy, offload_policy=place)
    object.__setattr__(root, SHARDS, how)
    for module in root.modules():
        if is_sharded(module):
            module.set_gradient_divide_factor(1.0)  # type: ignore[operator]  # the step has divided by counts already
            module.set_force_sum_reduction_for_comms(True)  # type: ignore[operator]  # Gloo knows no factor
    _prefetch(layers, how.prefetch)


def _prefetch(layers: Sequence[Any], count: int) -> None:
    """Make each layer prefetch the weights of the next `count` layers; in the backward pass, of the previous ones."""
    for place, layer in enumerate(layers) if count else ():
        layer.set_modules_to_forward_prefetch(list(layers[place + 1 : place + 1 + count]))
        layer.set_modules_to_backward_prefetch(list(reversed(layers[max(0, place - count) : place])))


def before_backward(root: nn.Module, *, last: bool) -> None:
    """Configure a sharded model for the next backward pass, which may be the `last` of the step. If gradients are
    summed over processes once per step, earlier passes only add them up locally."""
    if is_sharded(root):
        known: Any = root
        known.set_is_last_backward(last)
        once = getattr(root, SHARDS).reduce == "step"
        (known.set_requires_gradient_sync if once else known.set_requires_all_reduce)(last)


@contextmanager
def whole(root: nn.Module) -> Iterator[None]:
    """Gather all weights of a sharded model inside the context. Processes may then call it different numbers of
    times."""
    parts: list[Any] = [module for module in root.modules() if is_sharded(module)]
    again = getattr(root, SHARDS).reshard_after_forward
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(again and part is not root, recurse=False)
            part.reshard()
