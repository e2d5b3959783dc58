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

    def dequantized(self) -> Tensor:
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
        weight: Any = self.weight
        row = copy(weight.quant_state)
        row.shape = torch.Size([row.shape.numel()])
        return functional.dequantize_4bit(weight.data, row).view(weight.quant_state.shape)


class Linear8bitLt(_Dequantizing, modules.Linear8bitLt):
    """Rows of weights with a scale."""

    def dequantized(self) -> Tensor:
        weight: Any = self.weight
        scale: Any = weight.SCB if weight.SCB is not None else self.state.SCB
        return functional.int8_vectorwise_dequant(weight.data, scale)


OURS = {modules.Linear4bit: Linear4bit, modules.Linear8bitLt: Linear8bitLt}


def take_over(model: nn.Module) -> None:
    """Let every quantized layer of a model multiply as those here do."""
    for module in model.modules():
        if type(module) in OURS:
            module.__class__ = OURS[type(module)]
