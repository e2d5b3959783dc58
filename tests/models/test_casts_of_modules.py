"""Weights that are cast inside a context, by hand: which, once or every time, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from twofold.models.casts import Casts, wide_modules


class Mixed(nn.Module):
    """Weights of every kind: plain, narrow already, whole numbers, none at all, a score head, DoRA's magnitudes."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.score = nn.Linear(2, 2, bias=False), nn.Linear(2, 1)
        self.narrow = nn.Linear(2, 2, dtype=torch.bfloat16)
        self.whole = nn.Parameter(torch.arange(3), requires_grad=False)
        self.lora_magnitude_vector = nn.ModuleDict({"default": nn.Linear(2, 1, bias=False)})


def test_only_wide_floating_weights_are_cast_and_they_come_back() -> None:
    model: Any = Mixed()
    before = dict(model.named_parameters())
    with Casts(torch.bfloat16).of(model):
        assert model.plain.weight.dtype == torch.bfloat16
        assert torch.equal(model.plain.weight, before["plain.weight"].bfloat16())
        assert (model.plain.bias, model.whole) == (None, before["whole"])
        assert model.narrow.weight is before["narrow.weight"]
        assert model.score.weight is before["score.weight"]
        assert model.score.bias is before["score.bias"]
        assert model.lora_magnitude_vector["default"].weight is before["lora_magnitude_vector.default.weight"]
    assert all(value is before[name] for name, value in model.named_parameters())
    with pytest.raises(KeyError), Casts(torch.bfloat16).of(model):
        raise KeyError(str(model.plain.weight.dtype))
    assert all(value is before[name] for name, value in model.named_parameters())
    assert [type(part) for part in wide_modules(model)] == [nn.Linear, nn.Linear]
    assert set(wide_modules(model)) == {model.score, model.lora_magnitude_vector["default"]}


def test_casts_are_stored_only_inside_once_and_with_gradient() -> None:
    model, casts = nn.Linear(2, 2), Casts(torch.bfloat16)

    def weight() -> torch.Tensor:
        with casts.of(model):
            return model.weight

    assert weight() is not weight()
    with casts.once():
        first = weight()
        assert weight() is first
        with torch.no_grad():
            assert weight() is not first
            assert not weight().requires_grad
        assert weight() is first
    assert casts._known is None
    with casts.once(), torch.no_grad():
        weight()
        assert casts._known == {}
