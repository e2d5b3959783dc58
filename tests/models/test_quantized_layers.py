"""Layers of few bits, by hand: their dequantized weights, and the products with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

bnb = pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
from twofold.models import quantized_layers  # noqa: E402  # needs the extra

SHAPE = (2, 96)


def weight_of_codes() -> tuple[Tensor, Tensor, Any]:
    """A weight that four bits hold exactly, with rows that end within a block of 64; its bits and their scales."""
    code = bnb.functional.quantize_4bit(torch.ones(1, 64), blocksize=64, quant_type="nf4")[1].code
    flat = code[torch.arange(192) * 5 % 16].clone()
    flat[::64] = 1.0
    bits, scales = bnb.functional.quantize_4bit(flat[None], blocksize=64, quant_type="nf4")
    scales.shape = torch.Size(SHAPE)
    return flat.view(SHAPE), bits, scales


def of_four_bits() -> tuple[Any, Tensor]:
    weight, bits, scales = weight_of_codes()
    layer: Any = bnb.nn.Linear4bit(96, 2)
    layer.weight = bnb.nn.Params4bit(bits, quant_state=scales, bnb_quantized=True)
    quantized_layers.take_over(layer)
    return layer, weight


def of_eight_bits() -> tuple[Any, Tensor]:
    layer: Any = bnb.nn.Linear8bitLt(2, 2, has_fp16_weights=False)
    quantized_layers.take_over(layer)
    layer.weight = nn.Parameter(torch.tensor([[127, 0], [-127, 64]], dtype=torch.int8), requires_grad=False)
    layer.scales = torch.tensor([1.0, 2.0])
    return layer, torch.tensor([[1.0, 0.0], [-2.0, 128 / 127]])


def test_only_quantized_layers_are_taken_over() -> None:
    model = nn.Sequential(bnb.nn.Linear4bit(2, 2), bnb.nn.Linear8bitLt(2, 2), nn.Linear(2, 2))
    quantized_layers.take_over(model)
    assert [type(m) for m in model] == [quantized_layers.Linear4bit, quantized_layers.Linear8bitLt, nn.Linear]


@pytest.mark.parametrize("make", [of_four_bits, of_eight_bits])
def test_a_product_and_its_gradient_are_those_of_the_plain_weight(make: Any) -> None:
    layer, weight = make()
    torch.testing.assert_close(layer.dequantized().float(), weight, atol=1e-5, rtol=0)
    layer.bias = nn.Parameter(torch.tensor([1.0, -1.0]))
    x = torch.linspace(-1, 1, 3 * weight.shape[1]).view(3, -1).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, x @ weight.T + layer.bias, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), x)[0], 2 * y @ weight, atol=1e-3, rtol=0)
    assert torch.equal(layer(x.detach()), y)
    layer.bias = None
    torch.testing.assert_close(layer(x.detach()), x @ weight.T, atol=1e-4, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.detach()).dtype == torch.bfloat16
        assert layer(x.detach().double()).dtype == torch.float64


def test_a_separate_weight_keeps_its_scales() -> None:
    layer, weight = of_four_bits()
    scales = layer.weight.quant_state
    layer.separate()
    assert type(layer.weight) is nn.Parameter
    assert not layer.weight.requires_grad
    assert layer.scales is scales
    torch.testing.assert_close(layer.dequantized(), weight, atol=1e-6, rtol=0)
