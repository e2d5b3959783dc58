"""A reference that is a bias-corrected average of the policy: values by hand, state, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.models.bema import Bema, BemaReference
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import MovingReference, ReferenceSettings

HOW = Bema(ema_power=0.5, bias_power=1.0, lag=3.0)


def made(policy: Policy, every: int = 1) -> BemaReference:
    return BemaReference(MovingReference(policy, 1.0, every), HOW, every)


def nudge(policy: Policy, by: float) -> None:
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(by)


def moved(reference: BemaReference) -> dict[str, Tensor]:
    """The policy's weights, by the names that the reference gives them."""
    return {name: policy for name, (_, policy) in reference.reference.moves().items()}


def weights(reference: BemaReference) -> dict[str, Tensor]:
    held = reference.tensors()
    return {name.removeprefix("reference."): v for name, v in held.items() if name.startswith("reference.")}


@pytest.mark.parametrize("policy", [tiny.policy(), tiny.lora_policy(moved=True)], ids=["all weights", "adapter"])
def test_the_average_by_hand(policy: Policy) -> None:
    """ρ = 3, γ = 1, κ = ½, η = 1. After step 1: β = 4^(−½) = ½, α = ¼. The policy is θ_0 + 0.8: μ = θ_0 + 0.4, the
    reference θ_0 + 0.4 + ¼·0.8 = θ_0 + 0.6. After step 6, the policy at θ_0 + 2: β = ⅓, α = 1/9:
    μ = 0.4 + ⅓·1.6 = 0.93333, reference 0.93333 + 2/9 = 1.15556."""
    reference = made(policy)
    start = {name: value.detach().clone() for name, value in moved(reference).items()}
    nudge(policy, 0.8)
    reference.on_step_end(1)
    for name, value in weights(reference).items():
        torch.testing.assert_close(value, start[name] + 0.6)
    nudge(policy, 1.2)
    reference.on_step_end(6)
    for name, value in weights(reference).items():
        torch.testing.assert_close(value, start[name] + 0.4 + 1.6 / 3 + 2 / 9)
    assert Bema().weights(0) == (10**-0.5, 10**-0.2)
    assert Bema(multiplier=0.0, lag=4.0).weights(99) == (0.5, 4**-0.2)


def test_it_moves_on_its_step_and_on_no_other_and_answers_by_its_weights() -> None:
    policy, groups = tiny.policy(), tiny.pairs(2)
    reference = made(policy, every=3)
    first = reference.logps(groups, Packing())[0][0]
    nudge(policy, 0.1)
    reference.on_step_end(2)
    assert torch.equal(reference.logps(groups, Packing())[0][0], first)
    reference.on_step_end(3)
    assert not torch.equal(reference.logps(groups, Packing())[0][0], first)


def test_the_reference_of_an_adapter_is_the_base_under_the_averaged_adapter() -> None:
    """A loop by hand over the adapter's weights; the base stays, and the policy computes the same with them."""
    policy, groups = tiny.lora_policy(moved=True), tiny.pairs(3)
    base = {name: value.detach().clone() for name, value in policy.weights().items() if "lora" not in name}
    reference = made(policy)
    own = moved(reference)
    start = {name: value.detach().clone() for name, value in own.items()}
    mean = {name: value.clone() for name, value in start.items()}
    noise = torch.Generator().manual_seed(3)
    for step in (1, 2, 3):
        with torch.no_grad():
            for value in own.values():
                value.add_(torch.randn(value.shape, generator=noise, dtype=value.dtype), alpha=0.1)
        reference.on_step_end(step)
        beta, alpha = HOW.weights(step)
        mean = {name: (1 - beta) * mean[name] + beta * value.detach() for name, value in own.items()}
        wanted = {name: mean[name] + alpha * (own[name].detach() - start[name]) for name in own}
        for name, value in weights(reference).items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-12, atol=1e-12)
    said = torch.cat([x for row in reference.logps(groups, Packing()) for x in row])
    assert not torch.equal(said, torch.cat([x for row in policy.logps(groups, Packing()) for x in row]))
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(wanted[name])
    torch.testing.assert_close(said, torch.cat([x for row in policy.logps(groups, Packing()) for x in row]))
    assert all(torch.equal(value, base[name]) for name, value in policy.weights().items() if "lora" not in name)


@pytest.mark.parametrize("policy", [tiny.policy(), tiny.lora_policy(moved=True)], ids=["all weights", "adapter"])
def test_what_is_saved_goes_on_as_it_was(policy: Policy) -> None:
    one = made(policy)
    other = made(policy)
    nudge(policy, 0.3)
    one.on_step_end(1)
    other.restore({name: value.clone() for name, value in one.tensors().items()}, one.state_dict())
    nudge(policy, 0.2)
    for reference in (one, other):
        reference.on_step_end(2)
    mine, theirs = weights(one), weights(other)
    assert len(mine) == len(policy.trainable())
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_refusals() -> None:
    for wrong in ({"ema_power": -1.0}, {"bias_power": -1.0}, {"lag": 0.5}, {"multiplier": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            Bema(**wrong)
    with pytest.raises(ValueError, match="bema is a setting of kind: moving"):
        ReferenceSettings(bema=Bema())
    with pytest.raises(ValueError, match="alpha does nothing"):
        ReferenceSettings(kind="moving", alpha=1.0, bema=Bema())
    assert ReferenceSettings(kind="moving", sync_every=100, bema=Bema()).bema == Bema()
