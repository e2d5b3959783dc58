"""Memory of a step beyond the weights: counted while the model itself runs over a pack, on tensors without data.

So the count follows every architecture, precision, attention and checkpointing without a formula for each.
Deep models are run at two small depths. The difference between the two is the memory of the layers between them.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedConfig, PreTrainedModel

from twofold.batch import Group
from twofold.models.packed_model import PackedModel

_FEW = 4
"""Models with at most this many layers are run at their full depth."""
_LAYERS, _DENSE = "num_hidden_layers", "first_k_dense_replace"
FORWARD, HEAD, LAST_LAYER, BETWEEN, FIRST_LAYER = "forward", "head", "last layer", "between", "first layer"
"""Phases of a step. All but the first are parts of the backward pass, in this order."""


@dataclass(frozen=True)
class Build:
    """How to build a model from a config: its `weights` and `adapter` without data, then the `model` over both."""

    weights: Callable[[PreTrainedConfig], PreTrainedModel]
    adapter: Callable[[PreTrainedModel], Any]
    model: Callable[[PreTrainedModel, Any], PackedModel]


class Tally(TorchDispatchMode):
    """Counts the bytes of the storages that are allocated inside it: those alive (`now`), and the `peaks` by phase."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = 0
        self.peaks = {FORWARD: 0}
        self._phase = FORWARD
        self._live: dict[int, Any] = {}
        for tensor in known:
            self._add(tensor.untyped_storage(), 0)

    def begin(self, phase: str) -> None:
        """Count toward `phase` until another phase begins."""
        self._phase = phase
        self._note()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        fake = func is torch.ops.aten._grouped_mm.default and isinstance(args[0], FakeTensor)
        out = _grouped(*args[:3]) if fake else func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self._add(storage, storage.nbytes())
        return out

    def _add(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._live:
            return

        def free(_: object) -> None:
            self.now -= size
            del self._live[key]

        self._live[key] = weakref.ref(storage, free)
        self.now += size
        self._note()

    def _note(self) -> None:
        self.peaks[self._phase] = max(self.peaks.get(self._phase, 0), self.now)


def _grouped(a: Tensor, b: Tensor, offsets: Tensor) -> Tensor:
    """The empty result of a grouped matrix product. Without data, torch supports that product only in bfloat16."""
    shape = (*a.shape[-2:-1], *b.shape[-1:])
    return a.new_empty((len(offsets), *shape) if a.dim() == b.dim() == 2 else shape)


def step_bytes(
    build: Build, config: PreTrainedConfig, groups: Sequence[Group], *, several: bool, period: int = 1
) -> int:
    """Peak bytes, beyond the weights, of a forward and backward pass over `groups` as one pack. With `several` packs in
    a step, the gradients of the earlier packs count too. Layers repeat with this `period`.

    Raises the model's own exception if it cannot run without data.
    """
    text = config.get_text_config()
    depth = getattr(text, _LAYERS, None)
    depths = _depths(text, depth, period) if isinstance(depth, int) else None
    if not isinstance(depth, int) or depths is None:
        return max(_peaks(build, config, groups, several=several).values())
    low, high = (_peaks(build, _of_depth(config, each), groups, several=several) for each in depths)
    layers, apart = depth - depths[0], depths[1] - depths[0]
    return max(low[phase] + (high[phase] - low[phase]) * layers // apart for phase in low)


def _peaks(build: Build, config: PreTrainedConfig, groups: Sequence[Group], *, several: bool) -> dict[str, int]:
    """Peak bytes by phase. The peaks of the layers in between are not larger than those of the first and last layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.device("meta"):
            weights = build.weights(config)
            adapter = build.adapter(weights)
        _without_data(weights)
        model = build.model(weights, adapter)
        grads = 0
        if several:
            for parameter in model.trainable().values():
                parameter.grad = torch.empty_like(parameter)
                grads += parameter.grad.nbytes
        with Tally(_tensors(model)) as tally:
            hooks = _marked(model, tally)
            with model.cast_once():
                outputs, _ = model(groups)
                value = getattr(outputs, model.head.output).sum()
                del outputs
                tally.begin(HEAD)
                value.backward()
            for hook in hooks:
                hook.remove()
    peaks = {phase: tally.peaks[phase] for phase in (FORWARD, HEAD, LAST_LAYER, FIRST_LAYER) if phase in tally.peaks}
    return {phase: grads + peak for phase, peak in peaks.items()}


def _marked(model: PackedModel, tally: Tally) -> list[RemovableHandle]:
    """Hooks that begin a phase of `tally` when the backward pass reaches a layer."""
    layers = _layers(model)

    def mark(place: int) -> Callable[..., None]:
        phase = FIRST_LAYER if place == 0 else LAST_LAYER if place == len(layers) - 1 else BETWEEN

        def begin(_: Tensor) -> None:
            tally.begin(phase)

        def look(_module: nn.Module, _args: object, out: Any) -> None:
            hidden = next((x for x in tree_iter(out) if isinstance(x, Tensor)), None)
            if hidden is not None and hidden.requires_grad:
                hidden.register_hook(begin)

        return look

    return [layer.register_forward_hook(mark(place)) for place, layer in enumerate(layers)]


def _layers(model: PackedModel) -> list[nn.Module]:
    count = getattr(model.model.config.get_text_config(), _LAYERS, None)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return list(lists[0]) if lists else []


def _without_data(model: nn.Module) -> None:
    """Replace the tensors of `model` with fake tensors, which have no data. They report the CPU as their device, also
    where a GPU is planned for: fake tensors of CUDA are counted as if the backward pass freed nothing."""
    known: dict[int, Tensor] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if id(old) not in known:
                    made = torch.empty(old.shape, dtype=old.dtype)
                    known[id(old)] = nn.Parameter(made, old.requires_grad) if isinstance(old, nn.Parameter) else made
                place = module._parameters if isinstance(old, nn.Parameter) else module._buffers
                place[name] = known[id(old)]  # type: ignore[assignment]  # a parameter where it is one


def _tensors(model: nn.Module) -> list[Tensor]:
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [*model.parameters(), *model.buffers(), *grads]


def _depths(config: PreTrainedConfig, layers: int, least: int) -> tuple[int, int] | None:
    """Two depths that differ by one period of the layer pattern, which is a multiple of `least`; None to run the model
    at its full depth."""
    lists = [v for v in vars(config).values() if isinstance(v, (list, tuple)) and len(v) == layers]
    first = getattr(config, _DENSE, None) or 0
    for period in range(least, layers // 2 + 1, least):
        if all(v[i] == v[i + period] for v in lists for i in range(first, layers - period)):
            low = first + period * (3 if period == 1 else 2 if period == 2 else 1)
            return (low, low + period) if layers > max(_FEW, low + period) else None
    return None


def _of_depth(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    text = config.get_text_config()
    count = getattr(text, _LAYERS)
    for name, value in list(vars(text).items()):
        if isinstance(value, (list, tuple)) and len(value) == count:
            setattr(text, name, list(value)[:layers])
    setattr(text, _LAYERS, layers)
    return config
