"""The state that an optimizer is said to have is what it has after a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from twofold.training.optim import SGD, Adafactor, AdamW, AnyOptimizer, Muon, RMSprop, make_optimizer

KINDS = [AdamW(), Adafactor(), RMSprop(), SGD(learning_rate=0.1), SGD(learning_rate=0.1, momentum=0.0), Muon()]


@pytest.mark.parametrize("settings", KINDS, ids=lambda each: f"{each.kind} {getattr(each, 'momentum', '')}")
def test_bytes_of_state(settings: AnyOptimizer) -> None:
    shapes = {"matrix": (24, 40), "embedding": (50, 24), "vector": (24,)}
    named = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    optimizer = make_optimizer(settings, named, [named["embedding"]])
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in named.items():
        state = optimizer.state.get(parameter, {})
        live = sum(v.nbytes for v in state.values() if isinstance(v, torch.Tensor))
        stated = settings.state_bytes(parameter.shape, 4, embedding=name == "embedding")
        assert abs(stated - live) <= 8, (name, state)
