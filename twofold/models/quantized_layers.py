"""Linear layers with frozen weights in 4 or 8 bits, stored by bitsandbytes and multiplied as they were dequantized.

bitsandbytes' own products differ with and without gradient, on a processor repack the weights in place for the one and
not for the other, and in 8 bits round the inputs by what else is in the call. Here a layer is the plain product with
its dequantized weight, made again in the backward pass: the same bits with gradient, without, in any company.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from bitsandbytes import functional  # pyright: ignore[reportMissingImports]  # an extra: whoever imports this has looked
from bitsandbytes.nn import modules  # pyright: ignore[reportMissingImports]  # likewise
from torch import Tensor, nn
from torch.autograd import Function


class _Product(Function):
    """x @ weightᵀ + bias; nothing but the layer is held until the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Dequantizing) -> Tensor:
        ctx.layer = layer
        bias = layer.bias
        return nn.functional.linear(x, layer.dequantized().to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        (grad,) = grads
        return (grad @ ctx.layer.dequantized().to(grad.dtype) if ctx.needs_input_grad[0] else None), None


class _Dequantizing:
    """What both layers do."""

    bias: Tensor | None
    scales: Any = None
    """What bits stand for, once the weight is a plain parameter, of which processes may hold parts."""

    def dequantized(self) -> Tensor:
        raise NotImplementedError

    def separate(self) -> None:
        """Let the weight be a plain parameter of bits, and its scales the layer's own."""
        layer: Any = self
        self.scales = self._scales()
        layer.weight = nn.Parameter(layer.weight.data, requires_grad=False)

    def _scales(self) -> Any:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(device))
        return _Product.apply(x, self)  # type: ignore[no-any-return]  # torch's apply is untyped


class Linear4bit(_Dequantizing, modules.Linear4bit):
    """Blocks of 64 weights with a scale."""

    def dequantized(self) -> Tensor:
        """As one row: on a processor bitsandbytes begins a block with every row, wrong unless 64 divides its length."""
        state = self._scales()
        row = copy(state)
        row.shape = torch.Size([row.shape.numel()])
        return functional.dequantize_4bit(self.weight.data, row).view(state.shape)

    def _scales(self) -> Any:
        weight: Any = self.weight
        return self.scales if self.scales is not None else weight.quant_state


class Linear8bitLt(_Dequantizing, modules.Linear8bitLt):
    """Rows of weights with a scale."""

    def dequantized(self) -> Tensor:
        return functional.int8_vectorwise_dequant(self.weight.data, self._scales())

    def _scales(self) -> Any:
        weight: Any = self.weight
        if self.scales is not None:
            return self.scales
        return weight.SCB if weight.SCB is not None else self.state.SCB


OURS = {modules.Linear4bit: Linear4bit, modules.Linear8bitLt: Linear8bitLt}


def take_over(model: nn.Module) -> None:
    """Let every quantized layer of a model multiply as those here do."""
    for module in model.modules():
        if type(module) in OURS:
            module.__class__ = OURS[type(module)]
