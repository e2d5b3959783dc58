"""Linear layers with frozen weights in 4 or 8 bits, stored by bitsandbytes and dequantized for each product.

bitsandbytes' own products differ with and without gradient. On a CPU they repack the weights in place for only one of
the two, and in 8 bits the rounding of an input depends on the other rows of the call. Here a layer is the plain product
with its dequantized weight, which the backward pass dequantizes again. So results are equal to the last bit with and
without gradient, and with any other rows.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from bitsandbytes import functional  # pyright: ignore[reportMissingImports]  # an extra, checked before this import
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
    """The part that both layers share."""

    bias: Tensor | None
    scales: Any = None
    """The scales of the bits, once the weight is a plain parameter that can be sharded."""

    def dequantized(self) -> Tensor:
        raise NotImplementedError

    def separate(self) -> None:
        """Make the weight a plain parameter of bits, and store its scales in the layer."""
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
        """Dequantize as one row: on a CPU bitsandbytes starts a new block with every row, which is wrong unless the
        row's length is a multiple of 64."""
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
    """Give every quantized layer of a model the class from this module."""
    for module in model.modules():
        if type(module) in OURS:
            module.__class__ = OURS[type(module)]
