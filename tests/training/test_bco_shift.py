"""BCO's shift: the policy as it is now, over the whole step and those before it; measuring does not move it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support import tiny
from twofold.batch import Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference, with_reference
from twofold.objectives import BCO
from twofold.training.bco_shift import BCOShift, half_way, moved
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

PACKING = Packing()


def rows(policy: Policy) -> list[Group]:
    """Five desirable and three undesirable completions of other lengths, with a reference that lies elsewhere."""
    made = tiny.groups(*[(2 + i % 3, 1 + i % 4) for i in range(8)], seed=3)
    labels = [Role.DESIRABLE] * 5 + [Role.UNDESIRABLE] * 3
    told = [replace(g, branches=(replace(g.branches[0], role=r),)) for g, r in zip(made, labels, strict=True)]
    noise = torch.Generator().manual_seed(5)
    logps = [[x + 0.3 * torch.randn(len(x), generator=noise) for x in row] for row in policy.logps(told)]
    return with_reference(told, logps)


def ratios(policy: Policy, groups: list[Group]) -> list[float]:
    said = zip(groups, policy.logps(groups, PACKING), strict=True)
    return [(x - g.branches[0].token_columns["ref_logp"]).sum().item() for g, (x,) in said]


def test_it_is_half_way_between_the_means_of_the_labels() -> None:
    policy = tiny.policy()
    groups = rows(policy)
    found = ratios(policy, groups)
    want = (sum(found[:5]) / 5 + sum(found[5:]) / 3) / 2
    assert abs(want) > 0.01
    told = BCOShift(policy, PACKING, decay=0.9)(groups)
    assert [b.columns["delta"] for g in told for b in g.branches] == pytest.approx([want] * 8, rel=1e-12)


def test_means_remember_and_a_label_that_a_step_lacks_stays() -> None:
    """Decay ½: 2, then (2 + 4)/2 = 3 beside a first −1, then 3 still beside (−1 − 2)/2 = −1.5: δ is 0.75."""
    means: dict[str, float] = {}
    for step in ({"desirable": 2.0}, {"desirable": 4.0, "undesirable": -1.0}, {"undesirable": -2.0}):
        means = moved(means, step, 0.5)
    assert means == {"desirable": 3.0, "undesirable": -1.5}
    assert half_way(means) == 0.75
    assert half_way({"desirable": 2.0}) == 1.0
    assert moved(means, {"desirable": 7.0}, 0.0) == {"desirable": 7.0, "undesirable": -1.5}


def test_measuring_reads_it_and_does_not_move_it() -> None:
    policy = tiny.policy()
    groups = rows(policy)
    shift = BCOShift(policy, PACKING, decay=0.5)
    with torch.no_grad():
        shift(groups)
        assert shift.state_dict() == {}
        shift.restore({}, {"desirable": 2.0, "undesirable": -1.0})
        assert shift(groups)[0].branches[0].columns["delta"] == 0.5
    before = shift.state_dict()
    shift(groups)
    assert (before != shift.state_dict(), dict(shift.tensors())) == (True, {})


def test_a_step_moves_the_means_before_it_takes_its_shift() -> None:
    """Decay ¾: from 2 a quarter of the way to the step's own mean; a first mean is taken whole."""
    policy = tiny.policy()
    groups = rows(policy)
    found = ratios(policy, groups)
    shift = BCOShift(policy, PACKING, decay=0.75)
    shift.restore({}, {"desirable": 2.0})
    made = shift(groups)
    want = {"desirable": 0.75 * 2 + 0.25 * sum(found[:5]) / 5, "undesirable": sum(found[5:]) / 3}
    assert shift.state_dict() == pytest.approx(want, rel=1e-12)
    assert made[0].branches[0].columns["delta"] == pytest.approx(sum(want.values()) / 2, rel=1e-12)
    shift.on_step_end(1)
    assert shift.state_dict() == pytest.approx(want, rel=1e-12)
    assert shift.name == "reward-shift"


def test_no_packing_changes_a_step() -> None:
    found = []
    for packing in (Packing(groups=8), Packing(groups=3), Packing(groups=1)):
        policy = tiny.policy()
        shift = BCOShift(policy, packing, decay=0.9)
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.01)
        step = Step([Trainable(POLICY, policy, optimizer)], providers={"delta": shift}, packing=packing)
        groups = rows(policy)
        found.append([step(Round(i, [Part(groups, BCO(beta=0.5))])) for i in range(3)])
    assert abs(found[0][2]["delta"] - found[0][0]["delta"]) > 1e-4
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a == pytest.approx(b, rel=1e-10, abs=1e-12)


def test_the_gradient_does_not_run_through_it() -> None:
    """δ of the step alone and a δ given as the same number make one gradient."""
    found = []
    for fixed in (False, True):
        policy = tiny.policy()
        groups = rows(policy)
        if fixed:
            groups = BCOShift(policy, PACKING, decay=0.0)(groups)
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
        columns = {"delta": BCOShift(policy, PACKING, decay=0.0)}
        step = Step([Trainable(POLICY, policy, optimizer)], providers=columns, packing=PACKING, clip=None)
        step(Round(0, [Part(groups, BCO(beta=0.5))]))
        found.append(tiny.gradients(policy))
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


def test_its_reference_may_move() -> None:
    """It reads the column that the step's reference has made, whatever that is."""
    policy = tiny.policy()
    groups = [replace(g, branches=tuple(replace(b, token_columns={}) for b in g.branches)) for g in rows(policy)]
    live = live_reference(policy)
    told = BCOShift(policy, PACKING, decay=0.5)(with_reference(groups, live.logps(groups, PACKING)))
    assert told[0].branches[0].columns["delta"] == 0.0
