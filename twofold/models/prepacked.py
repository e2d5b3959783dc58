"""Linear layers whose weights are in the memory layout of the CPU's matrix products (oneDNN's prepacked weights).

A product with few rows spends much of its time on changing the weight's layout. Decoding multiplies the same
weights in every step, so it changes them once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn

from twofold.models.machine import available_memory

SMALLEST = 2**16
"""Values of a weight. A smaller one is multiplied as it is."""
FEWEST = 16
"""Steps for which packing takes less time than it saves, at any number of rows."""
ROWS = 32
"""The number for which the layout is chosen."""
MOST_MEMORY = 0.25
"""Of the memory that is available."""
Forward = Callable[[Tensor], Tensor]


@contextmanager
def prepacked(model: nn.Module, steps: int) -> Iterator[None]:
    """Within it the linear layers of a `model` on a CPU multiply with packed copies of their weights, in the dtype of
    autocast where that is on. For `steps` products without gradients, of weights that do not change meanwhile. Layers
    that cannot be packed are computed as before, as are all if there are fewer than 16 steps, or if the copies take
    more than a quarter of the available memory."""
    narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    parts = model.modules() if steps >= FEWEST else ()
    layers = [(layer, narrow or layer.weight.dtype) for layer in parts if _can_pack(layer)]
    layers = [(layer, dtype) for layer, dtype in layers if _works(dtype)]
    size = sum(layer.weight.numel() * dtype.itemsize for layer, dtype in layers)
    free = available_memory()
    if free is not None and size > MOST_MEMORY * free:
        layers = []
    try:
        for layer, dtype in layers:
            vars(layer)["forward"] = _forward(layer, dtype)  # takes precedence over its class's
        yield
    finally:
        for layer, _ in layers:
            vars(layer).pop("forward", None)


def _can_pack(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is a plain linear layer with a large weight on a CPU."""
    if not isinstance(layer, nn.Linear) or type(layer).forward is not nn.Linear.forward or "forward" in vars(layer):
        return False
    weight = layer.weight
    plain = type(weight) in (Tensor, nn.Parameter) and weight.device.type == "cpu" and weight.layout == torch.strided
    return plain and weight.numel() >= SMALLEST


@functools.cache
def _works(dtype: torch.dtype) -> bool:
    """Whether this processor and this torch multiply packed weights of `dtype`, and rightly."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    layer = nn.Linear(64, 32, device="meta", dtype=dtype).to_empty(device="cpu")  # draws no random numbers
    rows = torch.linspace(-1, 1, 3 * 64, dtype=dtype).view(3, 64)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        layer.weight.copy_(torch.linspace(-0.2, 0.1, 32 * 64).view(32, 64).sin())
        layer.bias.copy_(torch.linspace(0.5, -1, 32))
        try:
            error = (_forward(layer, dtype)(rows) - layer(rows)).abs().max()
        except (AttributeError, RuntimeError):  # operators that torch gives no promise for
            return False
    return bool(error <= 0.02)


def _forward(layer: nn.Linear, dtype: torch.dtype) -> Forward:
    """The layer's product with a packed copy of its weight."""
    with torch.no_grad():
        weight, bias = layer.weight.to(dtype), layer.bias
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
        bias = None if bias is None else bias.to(dtype)
    linear = torch.ops.mkldnn._linear_pointwise

    def forward(input: Tensor) -> Tensor:
        return linear(input.to(dtype), packed, bias, "none", [], "")  # type: ignore[no-any-return]  # an operator of torch

    return forward
