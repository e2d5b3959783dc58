"""A reference that follows the policy: how it moves, what of it must be kept, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from support import tiny
from support.golden import expected, given
from twofold.batch import Group
from twofold.errors import RecipeError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import FrozenReference, MovingReference, ReferenceSettings, move

PACKING = Packing()


def said(reference: FrozenReference | MovingReference | Policy, groups: list[Group]) -> Tensor:
    return torch.cat([x for row in reference.logps(groups, PACKING) for x in row])


def nudge(policy: Policy, by: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(by)


def test_soft_update_golden() -> None:
    """TR-DPO, arXiv:2404.09656: reference ← α·policy + (1 − α)·reference; [1, 2] and [3, −2] at α = 0.6."""
    case, want = given("dpo.tr_dpo_soft_update"), expected("dpo.tr_dpo_soft_update")
    reference, policy = (torch.tensor(case[name], dtype=torch.float64) for name in ("ref", "policy"))
    move(reference, policy, case["alpha"])
    assert reference.tolist() == pytest.approx(want["ref_new"], rel=1e-12)


def test_it_moves_on_its_step_and_on_no_other() -> None:
    policy, groups = tiny.policy(), tiny.pairs(4)
    moving = MovingReference(policy, alpha=1.0, sync_every=3)
    first = said(moving, groups)
    nudge(policy)
    moving.on_step_end(1)
    moving.on_step_end(2)
    assert torch.equal(said(moving, groups), first)
    moving.on_step_end(3)
    assert torch.equal(said(moving, groups), said(policy, groups))
    assert not torch.equal(said(moving, groups), first)


def test_a_soft_move_is_the_mean_of_the_weights() -> None:
    policy = tiny.policy()
    moving = MovingReference(policy, alpha=0.25, sync_every=1)
    before = {name: value.clone() for name, value in moving.tensors().items()}
    nudge(policy, 0.4)
    moving.on_step_end(1)
    assert set(before) == set(policy.trainable())
    for name, value in moving.tensors().items():
        torch.testing.assert_close(value, before[name] + 0.1)


def test_its_weights_take_no_gradient_and_are_not_the_policys() -> None:
    policy = tiny.policy()
    moving = MovingReference(policy, alpha=0.5, sync_every=1)
    assert not any(value.requires_grad for value in moving.tensors().values())
    nudge(policy)
    mine = policy.trainable()
    assert all(not torch.equal(value, mine[name]) for name, value in moving.tensors().items())


def test_a_moving_adapter_becomes_the_policys() -> None:
    policy, groups = tiny.lora_policy(moved=True), tiny.pairs(4)
    trained = list(policy.trainable())
    moving = MovingReference(policy, alpha=1.0, sync_every=1)
    assert list(policy.trainable()) == trained
    first = said(policy, groups)
    assert torch.equal(said(moving, groups), first)
    nudge(policy)
    assert torch.equal(said(moving, groups), first)
    moving.on_step_end(1)
    assert torch.equal(said(moving, groups), said(policy, groups))


def test_restored_it_says_what_it_said() -> None:
    policy, groups = tiny.policy(), tiny.pairs(4)
    moving = MovingReference(policy, alpha=0.5, sync_every=1)
    kept = {name: value.clone() for name, value in moving.tensors().items()}
    before = said(moving, groups)
    nudge(policy)
    moving.on_step_end(1)
    moving.restore(kept, moving.state_dict())
    assert torch.equal(said(moving, groups), before)


def test_the_mean_of_two_adapters_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"reference\.alpha=1"):
        MovingReference(tiny.lora_policy(), alpha=0.6, sync_every=1)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.2}, {"sync_every": 0}, {"fit_epochs": 0.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ReferenceSettings(kind="moving", **wrong)


def test_what_a_fixed_reference_would_ignore_is_refused() -> None:
    with pytest.raises(ValueError, match="kind: moving"):
        ReferenceSettings(alpha=0.1)
