"""Models loaded in parts: if a model will be sharded, each process reads only its own rows of every weight.

transformers reads slices of safetensors if a parameter is a DTensor. Until `sharding.shard_model` passes the parts to
FSDP2, such a model can be adapted, copied and saved, but not called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter

from twofold.errors import ModelError
from twofold.world import Kind, part_here, shard_mesh

M = TypeVar("M", bound=nn.Module)
WHOLE = "set world.kind=replicate"
ROOT = "twofold_sharded_root"
"""The attribute of a sharded model that refers to the module that gathers its weights when called."""


class NotInPartsError(ModelError):
    """The weights of a model cannot be read in parts."""


@contextmanager
def reading_parts(kind: Kind, device: str) -> Iterator[None]:
    """Inside the context models are loaded in parts. Raises NotInPartsError for one that cannot be."""
    load: Any = PreTrainedModel._load_pretrained_model
    convert: Any = WeightConverter.convert

    def load_parts(model: PreTrainedModel, *arguments: Any, **named: Any) -> Any:
        _divide(model, kind, device)
        loaded = load(model, *arguments, **named)
        _refuse_other_rows(model)
        return loaded

    def convert_rows(conversion: WeightConverter, name: str, model: PreTrainedModel, **named: Any) -> Any:
        """As `WeightConverter.convert`, which fails where this process has none of the rows."""
        part = part_here(model.get_parameter_or_buffer(name).detach())
        if part.numel():
            return convert(conversion, name, model=model, **named)
        conversion.collected_tensors.clear()
        return {name: torch.empty_like(part, device="cpu")}  # as all that is read

    PreTrainedModel._load_pretrained_model = staticmethod(load_parts)  # the one place between a model and its weights
    WeightConverter.convert = convert_rows  # type: ignore[assignment]  # as transformers calls it
    try:
        yield
    finally:
        PreTrainedModel._load_pretrained_model = staticmethod(load)
        WeightConverter.convert = convert


def in_parts(model: nn.Module) -> bool:
    """Whether this process has only a part of each weight, and the model is not sharded by FSDP2 yet."""
    return not hasattr(model, ROOT) and any(_divided(p) for p in model.parameters())


def copied(module: M) -> M:
    """A copy of a model, whole or in parts, whose weights are its own."""
    known: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().clone(), p.requires_grad) for p in module.parameters() if _divided(p)
    }
    return copy.deepcopy(module, known)


@contextmanager
def parts_for_shards(root: nn.Module) -> Iterator[None]:
    """Inside the context the weights of `root` that are in parts have no memory, so that FSDP2 can shard them. At the
    end the parts are copied into the shards."""
    parts: dict[tuple[nn.Module, str], Tensor] = {}
    empty: dict[int, nn.Parameter] = {}
    for module in root.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and _divided(parameter):
                parts[module, name] = part_here(parameter.detach())
                if id(parameter) not in empty:  # tied ones stay one
                    whole = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                    empty[id(parameter)] = nn.Parameter(whole, parameter.requires_grad)
                module._parameters[name] = empty[id(parameter)]
    yield
    if not parts:
        return
    device = next(iter(parts.values())).device
    root._apply(lambda value: torch.empty_like(value, device=device) if value.is_meta else value)
    with torch.no_grad():
        while parts:
            (module, name), part = parts.popitem()
            part_here(getattr(module, name).detach()).copy_(part)


def _divided(parameter: Tensor) -> bool:
    return hasattr(parameter, "to_local")


def _divide(model: PreTrainedModel, kind: Kind, device: str) -> None:
    """Replace the parameters of a model that is not loaded yet with parts."""
    from torch.distributed.tensor import DTensor, Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset as place

    mesh, rows = shard_mesh(kind, device), [Shard(0)]
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, whole in list(module._parameters.items()):
            if whole is None:
                continue
            if id(whole) not in made:
                shape, _ = place(whole.shape, mesh, rows)
                part = torch.empty(shape, dtype=whole.dtype, device=whole.device)
                value = DTensor.from_local(part, mesh, rows, run_check=False, shape=whole.shape, stride=whole.stride())
                made[id(whole)] = nn.Parameter(value, whole.requires_grad)
            module._parameters[name] = made[id(whole)]


def _refuse_other_rows(model: PreTrainedModel) -> None:
    """Raise NotInPartsError if loading would combine stored weights so that rows change. Two ways leave rows intact:
    stacking experts, and concatenating columns."""
    for conversion in getattr(model, "_weight_conversions", None) or ():
        for step in getattr(conversion, "operations", ()):
            merges = type(step).__name__ == "MergeModulelist" and step.dim == 0
            widens = type(step).__name__ == "Concatenate" and step.dim >= 1
            if not merges and not widens:
                what = f"its weights are stored in another form ({type(step).__name__})"
                raise NotInPartsError(what, where="", remedy=WHOLE)
