"""Where preferences on-policy end on a bandit: at the regularized optimum, or at a fixed point of their own."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

from support.bandit import BETA, REFERENCE, Table, best, vector, worth
from support.bandit_pairs import Play, standstill
from support.golden import expected, given
from support.scenes import branch, group
from twofold.algorithms.online import Online
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import DPO, IPO
from twofold.objectives.base import Loss, Term
from twofold.objectives.xpo import OF_REFERENCE, XPO


def sampled(**settings: Any) -> Online:
    return Online(judge="python:bandit", labels="bradley_terry", **settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"samples": 4, "pairs": "all"}, {"samples": 8}, {"epochs": 3}, {"reference_samples": 1, "samples": 1}],
    ids=["two", "all of four", "best and worst of eight", "three passes", "one of the reference"],
)
def test_with_labels_of_the_model_it_reaches_the_optimum(settings: dict[str, Any]) -> None:
    """At π*, β·log π/π_ref is the reward but for a constant, so σ of its difference is the chance of each label: the
    expected gradient of any pair is 0, however it was chosen."""
    prompts = 12 if settings.get("pairs") == "all" else 32
    policy_V = Play(DPO(beta=BETA), sampled(**settings), prompts=prompts, steps=150, rate=3.0).learn()
    assert worth(policy_V) > 0.98 * best()


def test_a_scale_is_a_beta() -> None:
    """Labels of half the reward lead where β twice as large does: to π_ref·exp(½r/β)."""
    policy_V = Play(DPO(beta=BETA), sampled(scale=0.5), prompts=64, steps=150, rate=3.0).learn()
    want_V = (vector(REFERENCE).log() + 0.5 * vector((1.0, 0.0, 2.0)) / BETA).softmax(0)
    assert policy_V.tolist() == pytest.approx(want_V.tolist(), abs=0.02)


def test_hard_labels_leave_no_point_inside() -> None:
    """−log σ of the lead has a slope everywhere: the best answer alone is left, at the price of its whole KL."""
    only_V = vector((0.0, 0.0, 1.0))
    assert 1 - (2.0 - BETA * log(1 / REFERENCE[2])) / best() == pytest.approx(0.115, abs=5e-4)
    policy_V = Play(DPO(beta=BETA), Online(judge="python:bandit"), prompts=48, steps=200, rate=40.0).learn()
    assert policy_V.tolist() == pytest.approx(only_V.tolist(), abs=0.02)


def smoothed(lead: Tensor, epsilon: float = 0.1) -> Tensor:
    """β·[(1 − ε)·σ(−m) − ε·σ(m)] at the margin m = β·lead."""
    margin = BETA * lead
    return BETA * ((1 - epsilon) * torch.sigmoid(-margin) - epsilon * torch.sigmoid(margin))


def squared(lead: Tensor, tau: float = 0.5) -> Tensor:
    """Minus the slope of (lead − 1/2τ)²."""
    return 2 * (1 / (2 * tau) - lead)


@pytest.mark.parametrize(
    ("objective", "pull", "rate", "lost"),
    [
        (DPO(beta=BETA, label_smoothing=0.1), smoothed, 2.0, 0.067),
        pytest.param(IPO(tau=0.5), squared, 0.3, 0.114, marks=pytest.mark.slow),
    ],
    ids=["cdpo", "ipo"],
)
def test_hard_labels_under_a_loss_with_a_stop_reach_a_point_of_their_own(
    objective: Any, pull: Any, rate: float, lost: float
) -> None:
    point_V = standstill(pull)
    assert 1 - worth(point_V) / best() == pytest.approx(lost, abs=5e-4)
    policy_V = Play(objective, Online(judge="python:bandit"), prompts=64, steps=200, rate=rate).learn()
    assert policy_V.tolist() == pytest.approx(point_V.tolist(), abs=0.02)


DATA = (0, 1, 2, 2) * 16
"""Ground truths: ¼, ¼, ½."""


def test_spin_approaches_the_data_and_stops_there() -> None:
    """Wherever it starts, each round moves it towards p_data (Theorem 5.2); there a draft is no other than a truth."""
    spin = Online(judge="truth", samples=1, epochs=4, reference="fresh")
    data_V = vector((0.25, 0.25, 0.5))
    play = Play(DPO(beta=0.1), spin, truths=DATA, prompts=64, steps=400, rate=20.0)
    assert play.learn().tolist() == pytest.approx(data_V.tolist(), abs=0.03)
    there = Play(DPO(beta=0.1), spin, Table(data_V.log().requires_grad_()), DATA, 64, 200, 20.0, data_V.log())
    assert there.learn().tolist() == pytest.approx(data_V.tolist(), abs=0.03)
    ties = sum(r.figures.get("ties", 0.0) for r in there.rounds)
    assert ties / (50 * 64) == pytest.approx(0.375, abs=0.02)


def test_xpo_pushes_the_references_completion_down() -> None:
    """dpo.xpo: DPO's loss plus α·log π(y_ref)."""
    case, want = given("dpo.xpo"), expected("dpo.xpo")
    drawn = case["logp_of_reference_sample"]
    for role in (Role.CHOSEN, Role.REJECTED):
        sides = []
        for side in (Role.CHOSEN, Role.REJECTED):
            ref = vector([drawn / 4] * 4 if side is role else [-3.0, -2.0])
            sides.append(branch(side, ref, {OF_REFERENCE: float(side is role)}))
        batch = Batch.of([group("0", *sides)])
        logp_S = batch.token_columns["ref_logp"].clone().requires_grad_()
        found = XPO(_Known(case["dpo_loss"]), case["alpha"])(Outputs(logp_S), batch)
        loss = sum(t.weight * t.value for t in found.terms.values())
        assert loss.item() == pytest.approx(want["loss"], abs=1e-9)
        loss.sum().backward()
        pushed = [[0.01] * 4 if s.role is role else [0.0] * 2 for s in sides]
        assert logp_S.grad.tolist() == pytest.approx([g for row in pushed for g in row])


@dataclass(frozen=True)
class _Known:
    """An objective whose loss is known."""

    loss: float
    requires = ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({"known": Term(torch.full((batch.count("pair"),), self.loss, dtype=torch.float64), "pair")})


@pytest.mark.slow
def test_optimism_leaves_what_the_reference_says() -> None:
    """A constant α takes from what the reference is likeliest to say and ends off the optimum; falling to 0 it does
    not."""
    made = {"samples": 1, "reference_samples": 1}
    shares = {
        (alpha, decay): Play(DPO(beta=BETA), sampled(alpha=alpha, alpha_decay=decay, **made),
                             prompts=32, steps=150, rate=3.0).learn()
        for alpha, decay in ((0.0, "none"), (0.05, "none"), (0.05, "linear"))
    }  # fmt: skip
    plain_V, bold_V, calm_V = shares.values()
    assert bold_V[0] < plain_V[0] - 0.02
    assert worth(calm_V) > 0.98 * best() > worth(bold_V)
