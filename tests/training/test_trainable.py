"""A trainable: its rate by its schedule, and all of it back after a stop."""

from __future__ import annotations

import pytest
import torch

from support import tiny
from twofold.training.optim import AdamW
from twofold.training.trainable import Trainable

SETTINGS = AdamW(learning_rate=0.01, warmup=2, schedule="linear")


def moved(each: Trainable, steps: int, seed: int = 0) -> Trainable:
    """After so many steps on made-up gradients."""
    for step in range(steps):
        noise = torch.Generator().manual_seed(seed + step)
        for parameter in each.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)
        each.optimizer.step()
        each.on_step_end()
    return each


def test_the_rate_follows_the_schedule_and_without_one_stays() -> None:
    each = Trainable.of("policy", tiny.policy(), SETTINGS, 6)
    assert (each.name, each.learning_rate) == ("policy", pytest.approx(0.01 / 3))
    rates: list[float] = []
    for _ in range(4):
        moved(each, 1)
        rates.append(each.learning_rate)
    assert rates == pytest.approx([0.02 / 3, 0.01, 0.0075, 0.005])
    policy = tiny.policy()
    plain = Trainable("policy", policy, torch.optim.SGD(policy.trainable().values(), lr=0.3))
    assert plain.schedule is None
    assert moved(plain, 3).learning_rate == 0.3


def test_only_what_is_trained_counts_as_weights() -> None:
    each = Trainable.of("policy", tiny.lora_policy(), SETTINGS, 6)
    assert each.weights().keys() == each.model.trainable().keys()
    assert all("lora_" in name for name in each.weights())
    assert not any(weight.requires_grad for weight in each.weights().values())


def test_moments_are_named_by_their_parameter() -> None:
    each = Trainable.of("policy", tiny.lora_policy(), SETTINGS, 6)
    assert each.moments() == {}
    moved(each, 2)
    names = {name.rpartition("/")[::2] for name in each.moments()}
    assert names == {(n, k) for n in each.parameters for k in ("step", "exp_avg", "exp_avg_sq")}
    name, parameter = next(iter(each.parameters.items()))
    assert each.moments()[f"{name}/step"] == 2
    assert torch.equal(each.moments()[f"{name}/exp_avg"], each.optimizer.state[parameter]["exp_avg"])


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_what_is_restored_goes_on_as_if_nothing_had_happened(steps: int) -> None:
    whole = moved(Trainable.of("policy", tiny.policy(), SETTINGS, 6), steps)
    weights = {n: w.clone() for n, w in whole.weights().items()}
    moments = {n: m.clone() for n, m in whole.moments().items()}
    again = Trainable.of("policy", tiny.policy(seed=1), SETTINGS, 6)
    again.restore(weights, moments, steps)
    assert again.learning_rate == whole.learning_rate
    assert again.moments().keys() == moments.keys()
    for each in (whole, again):
        moved(each, 2, seed=50)
    assert again.learning_rate == whole.learning_rate
    assert all(torch.equal(w, whole.weights()[n]) for n, w in again.weights().items())
    assert all(torch.equal(m, whole.moments()[n]) for n, m in again.moments().items())


def test_loading_weights_leaves_the_moments() -> None:
    each = moved(Trainable.of("policy", tiny.policy(), SETTINGS, 6), 1)
    before = {n: m.clone() for n, m in each.moments().items()}
    other = tiny.weights(tiny.policy(seed=1))
    each.load_weights(other)
    assert all(torch.equal(w, other[n]) for n, w in each.weights().items())
    assert all(p.requires_grad for p in each.parameters.values())
    assert all(torch.equal(m, before[n]) for n, m in each.moments().items())
