"""A part whose weight is set by gradient norms: exact under packing, told as it was, the same after a stop.

Llama's norms compute in float32, so a loss that counts 0.3 times has 0.3 times the gradient to 1e-7, no nearer.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import pdpo_toy as play
from support import tiny
from support.pdpo_toy import local
from twofold.algorithms.pdpo import PDPO
from twofold.errors import NonFiniteError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import SFT
from twofold.training.balance import Balance
from twofold.training.column_providers import providers
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

PACKINGS = {
    "whole": Packing(groups=8),
    "2 groups": Packing(groups=2),
    "single": Packing(groups=1),
    "40": Packing(tokens=40),
}


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference of any entry, relative to the largest entry of its tensor."""
    return max(((a[n] - b[n]).abs().max() / b[n].abs().max().clamp(min=1e-12)).item() for n in b)


def moved(packing: str = "whole", balance: Balance | None = None) -> tuple[Policy, Step]:
    """A policy a little off its reference, under a step that moves nothing."""
    policy = tiny.policy()
    reference = live_reference(policy)
    with torch.no_grad():
        for i, parameter in enumerate(policy.trainable().values()):
            parameter.add_(0.02 * (1 + i % 3))
    columns = providers(policy, reference, PACKINGS[packing])
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
    balance = balance or Balance()
    return policy, Step(
        [Trainable(POLICY, policy, optimizer)], providers=columns, packing=PACKINGS[packing], clip=None, balance=balance
    )


def drawn(policy: Policy, **settings: Any) -> Round:
    """Four pairs and six problems' drafts, most of them open."""
    given = PDPO(**{"warmup": 0, "prompts": 6, "form": "softplus", "drop_truncated": False, "gamma": 0.3, **settings})
    return play.algorithm(given, local(policy)).round(0, {})


def norm(gradients: dict[str, Tensor]) -> float:
    return math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))


def alone(policy: Policy, step: Step, part: Part) -> tuple[dict[str, float], dict[str, Tensor]]:
    return step(Round(0, [replace(part, weight=1.0, balanced=False)])), tiny.gradients(policy)


def test_the_generators_gradient_is_gamma_times_as_long_as_the_discriminators() -> None:
    """g_D + γ·‖g_D‖/‖g_G‖·g_G, from the two gradients taken one by one; and the loss has that weight."""
    policy, step = moved()
    made = drawn(policy, balance="gradient_norm")
    (d, theirs), (g, mine) = (alone(policy, step, part) for part in made.parts)
    metrics, found = step(made), tiny.gradients(policy)
    weight = 0.3 * norm(theirs) / norm(mine)
    assert abs(weight - 0.3) > 0.01
    assert distance(found, {n: theirs[n] + weight * mine[n] for n in theirs}) <= 1e-6
    pull = {n: found[n] - theirs[n] for n in found}
    assert norm(pull) == pytest.approx(0.3 * norm(theirs), rel=1e-9)
    assert metrics["balanced_weight"] == pytest.approx(weight, rel=1e-12)
    assert (metrics["other_norm"], metrics["balanced_norm"]) == pytest.approx((norm(theirs), norm(mine)), rel=1e-12)
    assert metrics["loss"] == pytest.approx(d["loss"] + weight * g["loss"], rel=1e-12)
    assert metrics["loss/pdpo"] == pytest.approx(g["loss/pdpo"], rel=1e-12)
    assert metrics["grad_norm"] == pytest.approx(norm(found), rel=1e-12)


def test_without_balance_the_weight_is_gamma() -> None:
    policy, step = moved()
    made = drawn(policy)
    (_, theirs), (_, mine) = (alone(policy, step, part) for part in made.parts)
    metrics, found = step(made), tiny.gradients(policy)
    assert distance(found, {n: theirs[n] + 0.3 * mine[n] for n in theirs}) <= 1e-6
    assert not {"balanced_weight", "other_norm", "balanced_norm"} & metrics.keys()


@pytest.mark.parametrize("settings", [{}, {"gradient_to": "both", "kl": 0.5}], ids=str)
def test_no_packing_changes_a_balanced_gradient(settings: dict[str, Any]) -> None:
    found = []
    for packing in PACKINGS:
        policy, step = moved(packing, Balance(decay=0.5))
        made = drawn(policy, balance="gradient_norm", samples=2, **settings)
        found.append((step(made), tiny.gradients(policy)))
    assert found[0][0]["balanced_weight"] > 0
    for metrics, gradient in found[1:]:
        assert distance(gradient, found[0][1]) <= 1e-11
        assert metrics == pytest.approx(found[0][0], rel=1e-11, abs=1e-12)


def test_a_generator_that_feels_nothing_leaves_the_discriminators_gradient() -> None:
    policy, step = moved()
    made = drawn(policy, balance="gradient_norm", form="hinge", margin=-99.0)
    _, theirs = alone(policy, step, made.parts[0])
    metrics, found = step(made), tiny.gradients(policy)
    assert all(torch.equal(found[n], theirs[n]) for n in theirs)
    assert metrics["balanced_weight"] == metrics["balanced_norm"] == 0.0


def test_no_drafts_at_all_are_skipped_and_told() -> None:
    policy, step = moved()
    made = drawn(policy, balance="gradient_norm")
    pairs, drafts = made.parts
    metrics = step(Round(0, [pairs, replace(drafts, groups=[])]))
    assert (metrics["skipped"], metrics["balanced_weight"]) == (1.0, 0.0)
    assert metrics["grad_norm"] == pytest.approx(metrics["other_norm"])


def test_means_run_over_both_norms() -> None:
    """Decay ½: norms (4, 2) then (2, 6) give 4/2 = 2 and 3/4; the ratio of means, not the mean of ratios."""
    balance = Balance(decay=0.5)
    assert balance.factor(4.0, 2.0) == 2.0
    assert balance.factor(2.0, 6.0) == 0.75
    assert balance.factor(7.0, 0.0) == 0.0
    assert balance.factor(0.0, 7.0) == 0.75
    told = json.loads(json.dumps(balance.state_dict()))
    again = Balance(decay=0.5)
    again.restore({}, told)
    assert again.factor(1.0, 1.0) == balance.factor(1.0, 1.0) == 2.0 / 2.5


def test_without_decay_each_step_has_its_own_ratio_up_to_the_most() -> None:
    balance = Balance(most=10.0)
    assert [balance.factor(*n) for n in ((4.0, 2.0), (2.0, 6.0), (1.0, 1e-9), (0.0, 5.0))] == [2.0, 1 / 3, 10.0, 0.0]
    assert balance.state_dict() == {"norms": None}


def test_a_norm_that_is_not_finite_stops_the_step_before_the_update() -> None:
    policy, step = moved()
    before = tiny.weights(policy)
    pairs, drafts = drawn(policy, balance="gradient_norm").parts
    hook = next(iter(policy.trainable().values())).register_hook(lambda g: g * float("inf"))
    with pytest.raises(NonFiniteError, match="nothing was updated"):
        step(Round(0, [pairs, drafts]))
    hook.remove()
    assert all(torch.equal(before[n], w) for n, w in tiny.weights(policy).items())


def test_any_parts_can_be_balanced() -> None:
    """Demonstrations beside pairs, not PDPO's alone."""
    policy, step = moved()
    shown = tiny.groups((3, 4), (2, 5), seed=1)
    step(Round(0, [Part(tiny.pairs(4), play.DPO(beta=0.5))]))
    theirs = tiny.gradients(policy)
    step(Round(0, [Part(tiny.pairs(4), play.DPO(beta=0.5)), Part(shown, SFT(), 0.5, balanced=True)]))
    pull = {n: g - theirs[n] for n, g in tiny.gradients(policy).items()}
    assert norm(pull) == pytest.approx(0.5 * norm(theirs), rel=1e-10)
