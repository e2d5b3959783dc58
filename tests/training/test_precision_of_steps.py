"""Steps in bfloat16: weights are cast once, gradients are those of float32 but for rounding, float32 is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from support.casts import Casts
from twofold.models.packing import Packing, bins
from twofold.models.policy import Policy
from twofold.models.reference import with_reference
from twofold.objectives import AOT, DPO
from twofold.objectives.base import Objective
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

ALONE = Packing(groups=1)


def gradients(policy: Policy, packing: Packing, objective: Objective | None = None) -> dict[str, Tensor]:
    """Of one step on eight pairs; nothing is moved."""
    groups = tiny.pairs(8)
    groups = with_reference(groups, [[x - 0.1 * (i + 1) for i, x in enumerate(r)] for r in policy.logps(groups)])
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
    step = Step([Trainable(POLICY, policy, optimizer)], providers={}, packing=packing, clip=None)
    step(Round(0, [Part(groups, objective or DPO(beta=0.5))]))
    return {n: g.clone() for n, g in tiny.gradients(policy).items()}


def narrow(**options: Any) -> Policy:
    return tiny.policy(dtype=torch.float32, autocast=torch.bfloat16, **options)


def apart(found: dict[str, Tensor], want: dict[str, Tensor]) -> float:
    """The worst matrix's relative distance."""
    assert found.keys() == want.keys()
    return max(((found[n].double() - want[n].double()).norm() / want[n].double().norm()).item() for n in want)


@pytest.mark.parametrize(("packing", "packs"), [(Packing(), 1), (ALONE, 8)])
def test_a_step_casts_each_weight_once(packing: Packing, packs: int) -> None:
    """Two layers have a matrix of [32, 40]; one pack alone would cast each of them too."""
    policy, groups = narrow(), tiny.pairs(8)
    assert len(bins(groups, packing)) == packs
    groups = with_reference(groups, policy.logps(groups))
    step = Step(
        [Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values()))], providers={}, packing=packing
    )
    with Casts(32, 40) as casts:
        step(Round(0, [Part(groups, DPO())]))
    assert casts.count == 2


@pytest.mark.parametrize("objective", [DPO(beta=0.5), AOT()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("sharing", ["auto", "rows"])
def test_packs_and_checkpoints_change_a_gradient_by_rounding_alone(
    objective: Objective, checkpointing: bool, sharing: str
) -> None:
    """AOT sees its packs without gradient first: what was cast then must not stand in for what is wanted later."""
    whole = gradients(narrow(sharing=sharing), Packing(), objective)
    policy = narrow(sharing=sharing, activation_checkpointing=checkpointing)
    assert apart(gradients(policy, ALONE, objective), whole) < 0.05


@pytest.mark.parametrize("sharing", ["auto", "rows"])
def test_gradients_are_float32s_but_for_rounding(sharing: str) -> None:
    exact = gradients(tiny.policy(dtype=torch.float32, sharing=sharing), Packing())
    assert 1e-4 < apart(gradients(narrow(sharing=sharing), Packing()), exact) < 0.1


def test_float32_steps_know_nothing_of_it() -> None:
    """The same bits with and without the context that keeps casts."""
    groups, (a, b) = tiny.pairs(4), (tiny.policy(dtype=torch.float32) for _ in range(2))
    a(groups)[0].logp_S.sum().backward()
    with b.cast_once():
        b(groups)[0].logp_S.sum().backward()
    assert all(torch.equal(g, tiny.gradients(b)[n]) for n, g in tiny.gradients(a).items())
