"""Which number of a model that is not finite is named: the first in the model's order, and no count of steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import tiny
from twofold.training.optim import SGD
from twofold.training.trainable import Trainable


def made() -> Trainable:
    return Trainable.of("policy", tiny.policy(dtype=torch.float32), SGD(learning_rate=0.5), 3)


def test_the_first_of_the_models_order_is_named() -> None:
    """In a layer the attention comes before the feed-forward part, whose name comes before it in the alphabet."""
    each = made()
    names = [name for name in each.parameters if ".mlp." in name or ".self_attn." in name]
    first, last = names[0], min(names)
    assert ".self_attn." in first
    assert ".mlp." in last
    with torch.no_grad():
        for name in (last, first):
            each.parameters[name].view(-1)[0] = torch.nan
    assert each.non_finite() == first
    with torch.no_grad():
        each.parameters[first].zero_()
    assert each.non_finite() == last


@pytest.mark.parametrize(
    ("moment", "value", "named"),
    [
        ("step", torch.tensor(torch.inf), False), ("count", torch.tensor([1, 2]), False),
        ("steps", torch.tensor(torch.inf), True), ("mean", torch.tensor([0.0, -torch.inf]), True),
        ("mean", torch.tensor([3e38, 3e38]), False), ("mask", torch.tensor([True]), False), ("step", 7, False),
    ],
)  # fmt: skip
def test_moments_that_are_numbers_of_the_update_are_looked_at(moment: str, value: Any, named: bool) -> None:
    each = made()
    name, parameter = next(iter(each.parameters.items()))
    each.optimizer.state[parameter] = {moment: value}
    assert each.non_finite() == (f"{name}/{moment}" if named else "")


def test_the_loss_of_a_shard_that_no_loss_moved_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    each = made()
    for parameter in each.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    monkeypatch.setattr("twofold.training.trainable.is_sharded", lambda model: True)
    each.sum_gradients(moved=False)
    assert [parameter.grad for parameter in each.parameters.values()] == [None] * len(each.parameters)
