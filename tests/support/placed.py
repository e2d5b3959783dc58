"""Which tensors are made where: the calls of torch that make a tensor, with what they name of dtype and device."""

from __future__ import annotations

from typing import Any

from torch.overrides import TorchFunctionMode

FACTORIES = ("zeros", "ones", "full", "arange", "tensor", "empty", "randint", "zeros_like", "ones_like", "full_like")


class Placed(TorchFunctionMode):
    """Records `calls` as (name of the function, the names of its keyword arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in FACTORIES:
            self.calls.append((name, tuple(sorted(kwargs or {}))))
        return func(*args, **(kwargs or {}))
