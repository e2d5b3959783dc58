"""Parts of a trainable: whose a saved tensor is, what a moment becomes again, and sums over processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support import tiny
from twofold.training import trainable
from twofold.training.optim import SGD
from twofold.training.trainable import Trainable


def made() -> Trainable:
    return Trainable.of("policy", tiny.policy(dtype=torch.float32), SGD(learning_rate=0.5), 3)


def test_a_saved_weight_or_moment_is_of_its_parameter() -> None:
    each = made()
    name, parameter = next(iter(each.parameters.items()))
    assert each.like(name) is parameter
    assert each.like(f"{name}/exp_avg") is parameter
    assert (each.like("other"), each.like("other/exp_avg"), each.like(f"{name}/a/b")) == (None, None, None)


def test_moments_come_back_as_the_optimizer_had_them() -> None:
    each, parameter = made(), torch.zeros(2, 3)
    step, counted, whole, rows = torch.tensor(7.0), torch.tensor(7), torch.ones(2, 3), torch.ones(2)
    assert each._moment("step", step, parameter) is step
    again = each._moment("step", counted, parameter)
    assert (again, type(again)) == (7, int)
    assert each._moment("exp_avg", whole, parameter) is whole
    assert each._moment("row", rows, parameter) is rows


@pytest.mark.parametrize(("fused", "device"), [(True, "meta"), (False, "cpu"), (None, "cpu")])
def test_a_fused_optimizer_counts_its_steps_where_its_weights_are(fused: bool | None, device: str) -> None:
    """On a GPU its update fails with a number of steps on the CPU. Here the weight is on the device `meta`."""
    each, weight = made(), torch.zeros(2, device="meta")
    for group in each.optimizer.param_groups:
        group["fused"] = fused
    step = each._moment("step", torch.tensor(7.0), weight)
    assert isinstance(step, torch.Tensor)
    assert step.device.type == device


def test_norms_are_read_by_device_and_type() -> None:
    odd = {"a": torch.ones(3), "b": torch.tensor([1.0, torch.nan]).bfloat16(), "c": torch.ones(2).bfloat16()}
    odd |= {"d": torch.tensor([torch.inf], dtype=torch.float64), "e": torch.full((4,), 3e38)}
    assert trainable._with_odd_norms(odd) == ["e", "b", "d"]
    assert trainable._with_odd_norms({"a": odd["a"], "c": odd["c"]}) == []
    assert trainable._with_odd_norms({}) == []


@pytest.mark.parametrize(("sharded", "moved", "left"), [(False, False, True), (True, True, True), (True, False, False)])
def test_gradients_are_summed_or_dropped(
    sharded: bool, moved: bool, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    each, sums = made(), list[Any]()
    for parameter in each.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    monkeypatch.setattr(trainable, "is_sharded", lambda model: sharded)
    monkeypatch.setattr(trainable, "world", lambda: SimpleNamespace(sum_gradients=sums.append))
    each.sum_gradients(moved=moved)
    assert len(sums) == (not sharded)
    assert all(p is q for some in sums for p, q in zip(some, each.parameters.values(), strict=True))
    assert all((p.grad is not None) == left for p in each.parameters.values())


def test_numbers_of_another_process_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    each = made()
    monkeypatch.setattr(trainable, "world", lambda: SimpleNamespace(gather=lambda mine: [mine, "theirs", "later"]))
    assert each.non_finite() == "theirs"
    name, parameter = next(iter(each.parameters.items()))
    with torch.no_grad():
        parameter[0] = torch.inf
    assert each.non_finite() == name


def test_moments_are_tensors_and_none_is_left_out() -> None:
    each = made()
    name, parameter = next(iter(each.parameters.items()))
    each.optimizer.state[parameter] = {"step": 3, "momentum_buffer": None, "mean": torch.ones(2)}
    moments = each.moments()
    assert {key: value.tolist() for key, value in moments.items()} == {f"{name}/step": 3, f"{name}/mean": [1.0, 1.0]}
    each.restore(each.weights(), {f"{name}/step": torch.tensor(4), f"{name}/mean": torch.zeros(2)}, 2)
    assert (each.optimizer.state[parameter]["step"], each.optimizer.state[parameter]["mean"].tolist()) == (
        4,
        [0.0, 0.0],
    )
