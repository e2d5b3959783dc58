"""One process that assembles matrices updates them as the optimizer does that is handed them whole."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import pytest
import torch
from torch import nn

from twofold.training.dealt_matrices import DealtMatrices


def make(parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    groups = [{"params": [p for n, p in parameters.items() if n != "b"]}, {"params": [parameters["b"]], "lr": 0.5}]
    return torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1)


@pytest.mark.usefixtures("group_of_one")
def test_weights_and_state_are_those_of_the_whole_optimizer() -> None:
    torch.manual_seed(0)
    own = {n: nn.Parameter(torch.randn(3, k)) for k, n in enumerate("abc", 1)}
    own["frozen"] = nn.Parameter(torch.ones(2))
    whole = deepcopy(own)
    dealt, plain = DealtMatrices(own, make), make(whole)
    assert [[id(p) for p in g["params"]] for g in dealt.param_groups] == [
        [id(own[n]) for n in ("a", "c", "frozen")], [id(own["b"])],
    ]  # fmt: skip
    for step in range(3):
        for name in "abc":
            gradient = torch.randn_like(own[name])
            own[name].grad, whole[name].grad = gradient, gradient.clone()
        for each in (dealt, plain):
            each.param_groups[0]["lr"] = 0.1 / (step + 1)
            each.step()
        for name, parameter in own.items():
            assert torch.equal(parameter, whole[name]), name
            mine, theirs = dealt.state[parameter], plain.state[whole[name]]
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(torch.as_tensor(mine[k]), torch.as_tensor(theirs[k])) for k in mine)
    assert own["frozen"].tolist() == [1, 1]


@pytest.mark.usefixtures("group_of_one")
def test_between_steps_no_values_are_held_twice() -> None:
    parameter = nn.Parameter(torch.randn(4, 5))
    dealt = DealtMatrices({"b": parameter}, lambda them: torch.optim.SGD([them["b"]], lr=0.1, momentum=0.9))
    parameter.grad = torch.ones(4, 5)
    dealt.step()
    (model,) = dealt._models
    assert model.shape == parameter.shape
    assert model.untyped_storage().nbytes() == 4
    assert model.grad is None
    assert not dealt._whole.state
    assert dealt.state[parameter]["momentum_buffer"].shape == (4, 5)
