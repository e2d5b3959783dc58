"""BCO on labelled completions: golden vector with its shift, a value by hand, and a table that learns what is good."""

from __future__ import annotations

import math

import pytest
import torch

from support.golden import expected, given
from support.scenes import Scene, branch, evaluate, even, group, near, preferences, taught
from twofold.batch import Role
from twofold.objectives import BCO
from twofold.training.bco_shift import half_way


def made(logratios: list[float], desirable: list[bool], delta: float) -> Scene:
    roles = [Role.DESIRABLE if d else Role.UNDESIRABLE for d in desirable]
    groups = [group(f"{i}", branch(role, even(-3.0, 2), {"delta": delta})) for i, role in enumerate(roles)]
    return groups, [[even(x - 3.0, 2)] for x in logratios]


def test_shifted_pairs() -> None:
    """Of a pair the vector adds both sides. δ is that of the batch, in rewards; the column holds it in log-ratios."""
    case, want = given("dpo.bco_shifted"), expected("dpo.bco_shifted")
    chosen, rejected = (
        [a - b for a, b in zip(case[f"policy_{side}_logps"], case[f"ref_{side}_logps"], strict=True)]
        for side in ("chosen", "rejected")
    )
    delta = half_way({"desirable": sum(chosen) / 2, "undesirable": sum(rejected) / 2})
    assert case["beta"] * delta == near(want["delta"])
    scene = made([*chosen, *rejected], [True, True, False, False], delta)
    loss, _, _ = evaluate(BCO(beta=case["beta"]), scene)
    w0, w1, l0, l1 = loss.terms["bco"].value.tolist()
    assert [w0 + l0, w1 + l1] == near(want["loss"])
    assert 2 * loss.terms["bco"].value.mean().item() == near(want["loss_mean"])


def test_bco_by_hand() -> None:
    """β = 1 and δ = ln 2: a desirable log-ratio of ln 6 lies above by ln 3 and costs −ln σ(ln 3) = ln(4/3), an
    undesirable one of 0 lies below by ln 2 and costs −ln σ(ln 2) = ln(3/2); gradients are −1/4 and 1/3, over 2 rows."""
    loss, grad_B, _ = evaluate(BCO(beta=1.0), made([math.log(6), 0.0], [True, False], math.log(2)))
    assert loss.terms["bco"].value.tolist() == near([math.log(4 / 3), math.log(3 / 2)])
    assert grad_B.tolist() == near([-1 / 8, 1 / 6])


def test_metrics_tell_delta_as_a_reward() -> None:
    """The third stands at δ itself, which is on no side."""
    loss, _, _ = evaluate(BCO(beta=0.5), made([2.0, 2.0, 1.0, -1.0], [True, False, True, False], 1.0))
    found = {name: term.value.tolist() for name, term in loss.metrics.items()}
    assert found["accuracy"] == [1, 0, 0, 1]
    assert found["delta"] == [0.5] * 4
    assert (found["desirable_reward"], found["undesirable_reward"]) == (near([1.0, 0.5]), near([1.0, -0.5]))


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a label"):
        evaluate(BCO(), preferences(2, torch.Generator().manual_seed(0)))
    for wrong, message in (({"beta": 0.0}, "beta must be > 0"), ({"shift_decay": 1.0}, "shift_decay must be in")):
        with pytest.raises(ValueError, match=message):
            BCO(**wrong)


def test_a_table_learns_what_is_good() -> None:
    gain_Y = taught(BCO(beta=1.0), {"delta": 0.0})
    assert gain_Y[0] > 1
    assert gain_Y[1] < -3
