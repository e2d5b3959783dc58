"""A model whose weights are sharded over the processes of a run; its layers are gathered one by one, or all at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils import _pytree
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from twofold.batch import Outputs, Routing
from twofold.models.casts import wide_modules
from twofold.models.fsdp import Precision, shard, whole
from twofold.models.packed_model import PackedModel
from twofold.models.parts import ROOT, parts_for_shards
from twofold.models.quantized import separate_scales
from twofold.models.trial import trial_groups
from twofold.world import Kind, WorldSettings, is_sharded, settle, world


def shard_model(held: PackedModel, kind: Kind, how: WorldSettings | None = None) -> None:
    """Shard `held` over the processes, with the settings `how`. Sharding replaces the parameters, so create optimizers
    afterwards. With kind `replicate` the model stays as it is."""
    if is_sharded(held) or kind == "replicate" or world().size == 1:
        return
    mastered = held.drop_masters()
    held.stay_on_device()
    separate_scales(held.model)
    precision = None if held.casts is None else Precision(held.casts.dtype, wide_modules(held.model))
    with parts_for_shards(held):
        shard(held, layers(held.model), (kind, held.device.type), how, precision)
    if is_sharded(held):
        _show_outputs()
        object.__setattr__(held.model, ROOT, weakref.ref(held))
        with torch.no_grad():
            held(trial_groups(held.model)[:1])  # FSDP2 makes the module that is called first the root
        settle(held)
    if mastered:
        held.keep_masters()


def _show_outputs() -> None:
    """Make the tensors in a model's outputs visible to hooks of torch before 2.13."""
    for kind in (Outputs, Routing):
        if kind not in _pytree.SUPPORTED_NODES:
            _pytree.register_dataclass(kind)


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The repeated layers of a model, only outermost ones; empty if none are known."""
    names = {*(getattr(model, "_no_split_modules", None) or ())}
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, GradientCheckpointingLayer) or type(module).__name__ in names
    }
    return [m for name, m in found.items() if not any(name.startswith(f"{other}.") for other in found)]


def weights_here(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of a model whose weights have been gathered; `state_dict` itself would return the shards."""
    buffers = {
        f"{name}.{key}".removeprefix("."): value
        for name, module in model.named_modules()
        for key, value in module.named_buffers(recurse=False)
        if key not in module._non_persistent_buffers_set
    }
    return {**{n: p.detach() for n, p in model.named_parameters(remove_duplicate=False)}, **buffers}


def in_shards(model: PreTrainedModel) -> bool:
    """Whether each process holds only a part of the weights of `model`."""
    return hasattr(model, ROOT)


@contextmanager
def whole_model(model: PreTrainedModel) -> Iterator[None]:
    """Gather all weights of a sharded `model` inside the context. Processes may then call it different numbers of
    times."""
    root = getattr(model, ROOT, lambda: None)()
    if root is None:
        yield
        return
    with whole(root):
        yield
