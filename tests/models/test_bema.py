"""A reference that is a bias-corrected average of the policy: values by hand, state, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.errors import RecipeError
from twofold.models.bema import Bema, BemaReference
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import FrozenReference, ReferenceSettings


def made(policy: Policy, every: int = 1) -> BemaReference:
    return BemaReference(policy, FrozenReference(policy), Bema(ema_power=0.5, bias_power=1.0, lag=3.0), every)


def nudge(policy: Policy, by: float) -> None:
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(by)


def weights(reference: BemaReference) -> dict[str, Tensor]:
    held = reference.tensors()
    return {name.removeprefix("reference."): v for name, v in held.items() if name.startswith("reference.")}


def test_the_average_by_hand() -> None:
    """ρ = 3, γ = 1, κ = ½, η = 1. After step 1: β = 4^(−½) = ½, α = ¼. The policy is θ_0 + 0.8: μ = θ_0 + 0.4, the
    reference θ_0 + 0.4 + ¼·0.8 = θ_0 + 0.6. After step 6, the policy at θ_0 + 2: β = ⅓, α = 1/9:
    μ = 0.4 + ⅓·1.6 = 0.93333, reference 0.93333 + 2/9 = 1.15556."""
    policy = tiny.policy()
    reference = made(policy)
    start = {name: value.detach().clone() for name, value in policy.trainable().items()}
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


def test_what_is_saved_goes_on_as_it_was() -> None:
    policy = tiny.policy()
    one = made(policy)
    other = made(policy)
    nudge(policy, 0.3)
    one.on_step_end(1)
    other.restore({name: value.clone() for name, value in one.tensors().items()}, one.state_dict())
    nudge(policy, 0.2)
    for reference in (one, other):
        reference.on_step_end(2)
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == policy.trainable().keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_refusals() -> None:
    policy = tiny.lora_policy()
    with pytest.raises(RecipeError, match="an average of adapters is no adapter"):
        BemaReference(policy, FrozenReference(tiny.policy()), Bema(), 1)
    for wrong in ({"ema_power": -1.0}, {"bias_power": -1.0}, {"lag": 0.5}, {"multiplier": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            Bema(**wrong)
    with pytest.raises(ValueError, match="bema is a setting of kind: moving"):
        ReferenceSettings(bema=Bema())
    with pytest.raises(ValueError, match="alpha does nothing"):
        ReferenceSettings(kind="moving", alpha=1.0, bema=Bema())
    assert ReferenceSettings(kind="moving", sync_every=100, bema=Bema()).bema == Bema()
