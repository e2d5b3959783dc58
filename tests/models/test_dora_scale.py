"""DoRA's scale of a row, by hand: magnitude / ‖W + s·B·A‖, in float32 or wider."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.dora import DoraLinearLayer
from torch import Tensor, nn

from twofold.models.dora import WideDora, settle_magnitudes

ROOT = 32**0.5


def linear(rows: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    made = nn.Linear(len(rows[0]), len(rows), bias=bias is not None)
    made.weight = nn.Parameter(torch.tensor(rows))
    if bias is not None:
        made.bias = nn.Parameter(torch.tensor(bias))
    return made


@pytest.fixture
def parts() -> dict[str, Any]:
    """W + 2·B·A is [[3, 0], [4, 4]], with rows of norms 3 and √32."""
    base = linear([[3.0, 0.0], [0.0, 4.0]], [1.0, -1.0])
    return {"base_layer": base, "lora_A": linear([[1.0, 0.0]]), "lora_B": linear([[0.0], [2.0]]), "scaling": 2.0}


def test_rows_are_scaled_and_the_bias_is_not(parts: dict[str, Any]) -> None:
    layer = WideDora(False)
    layer.weight = nn.Parameter(torch.tensor([6.0, ROOT / 2]))
    x = torch.ones(1, 2)
    assert layer(x, **parts).tolist() == [pytest.approx([3.0, 0.0])]  # the base gives [4, 3], both together [7, 3]
    assert layer(x, **parts, base_result=torch.full((1, 2), 10.0)).tolist() == [pytest.approx([9.0, -3.5])]
    parts["base_layer"] = linear([[3.0, 0.0], [0.0, 4.0]])
    assert layer(x, **parts).tolist() == [pytest.approx([3.0, 0.0])]


@pytest.mark.parametrize(("dtype", "wide"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_magnitudes_begin_as_the_norms(parts: dict[str, Any], dtype: torch.dtype, wide: torch.dtype) -> None:
    parts["base_layer"].to(dtype)
    layer = WideDora(False)
    with torch.autocast("cpu", torch.bfloat16):
        layer.begin(**parts)
    magnitude: Tensor = layer.weight
    assert (magnitude.dtype, magnitude.requires_grad) == (wide, True)
    assert magnitude.tolist() == pytest.approx([3.0, ROOT], abs=1e-6)
    across = WideDora(True)
    across.begin(linear([[3.0, 1.0], [0.0, 4.0]]), parts["lora_A"], parts["lora_B"], 2.0)
    assert across.weight.tolist() == pytest.approx([3.0, 41**0.5])


@pytest.mark.parametrize("fresh", [True, False])
def test_only_new_adapters_begin_again(fresh: bool) -> None:
    base = nn.Sequential(linear([[3.0, 4.0], [5.0, 12.0]]), linear([[1.0, 0.0]]))
    model: Any = get_peft_model(base, LoraConfig(r=1, target_modules=["0"], use_dora=True))  # type: ignore[arg-type]
    (magnitudes,) = [m.lora_magnitude_vector for m in model.modules() if hasattr(m, "lora_magnitude_vector")]
    magnitude = magnitudes["default"]
    assert type(magnitude) is DoraLinearLayer
    magnitude.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    settle_magnitudes(model, fresh=fresh)
    assert type(magnitude) is WideDora
    assert magnitude.weight.tolist() == ([5.0, 13.0] if fresh else [1.0, 2.0])
