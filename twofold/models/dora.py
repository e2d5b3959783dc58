"""DoRA's scale of each row of a weight, magnitude / ‖W + s·B·A‖, always computed in float32. In bfloat16 the two would
be rounded differently, and a model with a new adapter would not equal the model without it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from torch import Tensor, nn

from twofold.models.quantized import plain_weight


class WideDora(DoraLinearLayer):
    """PEFT's layer with a scale of exactly 1 at the start, in every precision."""

    def forward(
        self, x: Tensor, *, lora_A: nn.Module, lora_B: nn.Module, scaling: float, base_layer: nn.Module, **others: Any
    ) -> Tensor:
        """The term to add to the base layer's result; PEFT passes that result as `base_result`."""
        scale = self.weight / self._norm(base_layer, lora_A.weight, lora_B.weight, scaling)
        bias: Any = getattr(base_layer, "bias", None)
        plain: Tensor = base_layer(x) if others.get("base_result") is None else others["base_result"]
        update = lora_B(lora_A(x)) * scaling
        return (scale - 1) * (plain if bias is None else plain - bias) + scale * update

    def begin(self, base_layer: nn.Module, lora_A: nn.Module, lora_B: nn.Module, scaling: float) -> None:
        """Initialize the magnitude to the current norms."""
        self.weight = nn.Parameter(self._norm(base_layer, lora_A.weight, lora_B.weight, scaling))

    @torch.no_grad()
    def _norm(self, base_layer: nn.Module, a: Any, b: Any, scaling: float) -> Tensor:
        """The norms of the adapted weight's rows, without gradient, as in section 4.3 of the paper."""
        with nullcontext() if a.is_meta else torch.autocast(a.device.type, enabled=False):
            weight = plain_weight(base_layer)
            wide = torch.promote_types(weight.dtype, torch.float32)
            weight = (weight.T if self.fan_in_fan_out else weight).to(wide)
            return torch.addmm(weight, b.to(wide), a.to(wide), alpha=scaling).norm(dim=1)


def settle_magnitudes(model: nn.Module, *, fresh: bool) -> None:
    """Make every DoRA layer scale in float32, and initialize a `fresh` adapter's magnitudes in float32."""
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "lora_magnitude_vector")]
    for layer in layers:
        for name, vector in layer.lora_magnitude_vector.items():
            if type(vector) is DoraLinearLayer:
                wide = cast("WideDora", vector)
                wide.__class__ = WideDora
                if fresh:
                    wide.begin(layer.get_base_layer(), layer.lora_A[name], layer.lora_B[name], layer.scaling[name])
