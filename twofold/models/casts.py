"""Weights that are stored in one dtype and compute in another, as do the residual stream and the products.

This is what FSDP2's mixed-precision policy does, but for weights that are not sharded. Gradients arrive and are summed
in the dtype in which the weights are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_WIDE = "score", "lora_magnitude_vector"


class Casts:
    """Casts all weights to `dtype`, except those of `wide_modules`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._known: dict[int, Tensor] | None = None

    @contextmanager
    def once(self) -> Iterator[None]:
        """Within it each weight is cast once for all calls whose gradient is wanted."""
        self._known = {}
        try:
            yield
        finally:
            self._known = None

    @contextmanager
    def of(self, module: nn.Module) -> Iterator[None]:
        """Within it the weights of `module` are of `dtype`."""
        wide = {id(p) for part in wide_modules(module) for p in part.parameters()}
        before: list[tuple[nn.Module, str, nn.Parameter]] = []
        casts = self._known if self._known is not None and torch.is_grad_enabled() else {}
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is None or id(weight) in wide or not weight.is_floating_point() or weight.dtype == self.dtype:
                    continue
                if id(weight) not in casts:
                    casts[id(weight)] = weight.to(self.dtype)
                before.append((part, name, weight))
        for part, name, weight in before:
            part._parameters[name] = casts[id(weight)]  # type: ignore[assignment]  # a tensor whose gradient reaches the weight
        try:
            yield
        finally:
            for part, name, weight in before:
                part._parameters[name] = weight


def wide_modules(module: nn.Module) -> list[nn.Module]:
    """The parts of a model that always compute in float32: a score head, the magnitudes of DoRA."""
    named = [part for name, part in module.named_modules() if name.rpartition(".")[2] in _WIDE]
    return [each for part in named for each in (part.children() if isinstance(part, nn.ModuleDict) else [part])]


def can_be_narrow(model: PreTrainedModel) -> bool:
    """Whether transformers would load all of a model's weights in bfloat16."""
    return not any(p._keep_in_fp32_modules_strict for p in model.modules() if isinstance(p, PreTrainedModel))
