"""KTO: golden vector, both sides of a mirror, and a table of logits that learns what is good."""

from __future__ import annotations

import math

import pytest
import torch

from support.golden import expected, given
from support.scenes import Scene, branch, evaluate, even, group, labelled, near, preferences, taught, whole
from twofold.batch import Role
from twofold.objectives import KTO, AnchoredPO
from twofold.objectives.base import Loss


def made(logratios: list[float], desirable: list[bool], z0: float) -> Scene:
    roles = [Role.DESIRABLE if d else Role.UNDESIRABLE for d in desirable]
    groups = [group(f"{i}", branch(role, even(-3.0, 2), {"z0": z0})) for i, role in enumerate(roles)]
    return groups, [[even(x - 3.0, 2)] for x in logratios]


def values(loss: Loss) -> list[float]:
    return loss.terms["kto"].value.tolist()


def test_of_a_desirable_and_an_undesirable_completion() -> None:
    case, want = given("kto"), expected("kto")
    logratios = [a - b for a, b in zip(case["logp"], case["ref_logp"], strict=True)]
    kl = [a - b for a, b in zip(case["kl_logp"], case["kl_ref_logp"], strict=True)]
    z0 = max(0.0, sum(kl) / len(kl))
    assert z0 == near(want["z0"])
    objective = KTO(beta=case["beta"], desirable_weight=case["lamD"], undesirable_weight=case["lamU"])
    loss, grad_B, _ = evaluate(objective, made(logratios, case["desirable"], z0))
    assert values(loss) == near(want["loss"])
    assert sum(values(loss)) / 2 == near(want["loss_mean"])
    assert 2 * grad_B[0].item() == near(want["grad_desirable"])


def test_kto_by_hand() -> None:
    """β = 1 and z₀ = ln 2: a desirable log-ratio of ln 6 leads by ln 3 and costs 1 − σ(ln 3) = 1/4, an undesirable one
    of 0 lies below by ln 2 and costs 1 − σ(ln 2) = 1/3; weights of 3/2 and 1/2 make that 3/8 and 1/6."""
    scene = made([math.log(6), 0.0], [True, False], math.log(2))
    assert values(evaluate(KTO(beta=1.0), scene)[0]) == near([1 / 4, 1 / 3])
    weighted, grad_B, _ = evaluate(KTO(beta=1.0, desirable_weight=1.5, undesirable_weight=0.5), scene)
    assert values(weighted) == near([3 / 8, 1 / 6])
    assert grad_B.tolist() == near([-1.5 * 3 / 16 / 2, 0.5 * 2 / 9 / 2])


def test_at_zero_the_two_rows_of_a_pair_are_anchored_po() -> None:
    """And no KL is asked for, told or read."""
    groups, logps = preferences(5, torch.Generator().manual_seed(0))
    want, grad_S, _ = evaluate(AnchoredPO(beta=0.7), (groups, logps), even=False)
    roles = {Role.CHOSEN: Role.DESIRABLE, Role.REJECTED: Role.UNDESIRABLE}
    rows = [group(g.name, branch(roles[b.role], b.token_columns["ref_logp"])) for g in groups for b in g.branches]
    objective = KTO(beta=0.7, z0="zero")
    loss, by_row_S, _ = evaluate(objective, (rows, [[x] for row in logps for x in row]), even=False)
    assert loss.terms["kto"].value.reshape(5, 2).sum(1).tolist() == near(whole(want).tolist())
    torch.testing.assert_close(2 * by_row_S, grad_S, rtol=1e-12, atol=1e-14)
    assert (objective.requires, "z0" in loss.metrics) == (("ref_logp",), False)


def test_labels_are_mirror_images_at_the_reference() -> None:
    loss, grad_B, _ = evaluate(KTO(beta=0.5), made([0.0, 0.0], [True, False], 0.0))
    assert values(loss) == [0.5, 0.5]
    assert grad_B.tolist() == near([-0.5 / 8, 0.5 / 8])


def test_a_constant_of_the_prompt_is_seen() -> None:
    groups, logps = labelled(6, torch.Generator().manual_seed(0))
    raised = [[x - 1.5 / len(x) for x in row] for row in logps]
    before, after = (evaluate(KTO(), (groups, x), even=False)[0].terms["kto"].value for x in (logps, raised))
    assert (before - after).abs().max() > 1e-3


def test_metrics_are_told_by_label() -> None:
    """The third stands at z₀ itself, which is on no side."""
    loss, _, batch = evaluate(KTO(beta=0.5), made([2.0, 2.0, 1.0, -1.0], [True, False, True, False], 1.0))
    found = {name: term.value.tolist() for name, term in loss.metrics.items()}
    assert found["accuracy"] == [1, 0, 0, 1]
    assert found["z0"] == [1.0] * 4
    assert (found["desirable_reward"], found["undesirable_reward"]) == (near([1.0, 0.5]), near([1.0, -0.5]))
    assert (found["desirable_logp"], found["undesirable_length"]) == (near([-1.0, -2.0]), [2, 2])
    assert all(batch.count(t.unit) == len(t.value) for t in loss.metrics.values())


def test_what_has_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a label"):
        evaluate(KTO(), preferences(2, torch.Generator().manual_seed(0)))
    for wrong in ({"beta": 0.0}, {"desirable_weight": 0.0}, {"undesirable_weight": -1.0}):
        with pytest.raises(ValueError, match="must be > 0"):
            KTO(**wrong)


def test_a_table_learns_what_is_good() -> None:
    gain_Y = taught(KTO(beta=1.0), {"z0": 0.0})
    assert gain_Y[0] > 1
    assert gain_Y[1] < -3
