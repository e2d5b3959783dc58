"""Weighted rows in a step of a model: a row of weight 2 is the row twice, a row in doubt is both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.batch import Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import AOT, BCO, DPO, KTO
from twofold.objectives.base import Objective
from twofold.training.bco_shift import BCOShift
from twofold.training.column_providers import providers
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

WEIGHTS = (2.0, 1.0, 0.0, 3.0)
Found = tuple[dict[str, float], dict[str, Tensor]]


def stepped(groups: Sequence[Group], objective: Objective, packing: Packing) -> Found:
    """Metrics and gradients of one step on a policy that has left its reference. GPT-2's norms are float64 throughout;
    Llama's compute in float32, where three times a gradient is not its sum."""
    policy = Policy(tiny.gpt2().double())
    before = live_reference(policy)
    with torch.no_grad():
        for p in policy.trainable().values():
            p.add_(0.05)
    known = providers(policy, before, packing)
    known["delta"] = BCOShift(policy, packing, decay=0.5)
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
    step = Step([Trainable(POLICY, policy, optimizer)], providers=known, packing=packing, clip=None)
    return step(Round(0, [Part(groups, objective, 0.7)])), tiny.gradients(policy)


def same(found: Found, expected: Found) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-11, abs=1e-11)
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-12, atol=1e-12)


def weighted(groups: Sequence[Group], column: str, values: Sequence[float]) -> list[Group]:
    return [g.with_columns([{column: v}] * len(g.branches)) for g, v in zip(groups, values, strict=True)]


def labelled() -> list[Group]:
    made = tiny.groups((2, 3), (3, 1), (4, 2), (5, 4), seed=4)
    roles = [Role.DESIRABLE, Role.UNDESIRABLE, Role.DESIRABLE, Role.UNDESIRABLE]
    return [replace(g, branches=(replace(g.branches[0], role=r),)) for g, r in zip(made, roles, strict=True)]


@pytest.mark.parametrize("objective", [DPO(beta=0.5), AOT(beta=0.5), KTO(), BCO()], ids=lambda o: o.kind)
def test_a_row_of_weight_2_is_the_row_twice(objective: Objective) -> None:
    """Copies stand next to each other: then KTO's mismatched rows are those of the weighted step too."""
    groups = labelled() if objective.data_kind == "labels" else tiny.pairs(4, seed=0)
    copies = [g for g, w in zip(groups, WEIGHTS, strict=True) for _ in range(int(w))]
    if objective.kind == "kto":  # the row of weight 0 is still another row's completion
        groups, copies = groups[:2] + groups[3:], copies
    weights = [w for w in WEIGHTS if w] if objective.kind == "kto" else WEIGHTS
    expected = stepped(copies, objective, Packing(groups=16))
    for packing in (Packing(groups=1), Packing(groups=2), Packing(tokens=40)):
        same(stepped(weighted(groups, "weight", weights), objective, packing), expected)


def test_a_pair_in_doubt_is_both_orders_in_any_packing() -> None:
    groups, turned = tiny.pairs(2, seed=1), list[Group]()
    for group in groups:
        chosen, rejected = group.branches
        sides = replace(rejected, role=Role.CHOSEN), replace(chosen, role=Role.REJECTED)
        turned.append(replace(group, branches=sides))
    both = weighted([*groups, *turned], "weight", (0.75, 0.5, 0.25, 0.5))
    expected = stepped(both, DPO(beta=0.5), Packing(groups=8))
    for packing in (Packing(groups=1), Packing(groups=2)):
        same(stepped(weighted(groups, "probability", (0.75, 0.5)), DPO(beta=0.5), packing), expected)


def test_a_step_of_rows_that_do_not_count_is_skipped() -> None:
    groups = weighted(tiny.pairs(2, seed=1), "weight", (0.0, 0.0))
    metrics, gradients = stepped(groups, DPO(), Packing())
    assert metrics["skipped"] == 1.0
    assert "loss" not in metrics
    assert not any(g.any() for g in gradients.values())
