"""A policy that is a table of logits, under every objective on pairs: DPO's closed form, and who moves which way."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from support.scenes import branch, group, whole
from twofold.batch import Batch, Outputs, Role
from twofold.models.logprob import statistics_of
from twofold.objectives import (
    CPO,
    DPO,
    DPOP,
    NCA,
    ORPO,
    RPO,
    SPPO,
    AnchoredPO,
    BCOPair,
    CalDPO,
    DiscoPOP,
    DPOShift,
    OnPairs,
    SLiC,
    Unlikelihood,
)
from twofold.objectives.base import Objective
from twofold.objectives.discopop import modulated


def table(ref_Y: Tensor, chosen: list[int], rejected: list[int]) -> tuple[Batch, Callable[[Tensor], Outputs]]:
    """Answers of one token each: a batch of pairs of them, and what a table of log-probabilities says of it."""
    sides = zip(ref_Y[chosen, None], ref_Y[rejected, None], strict=True)
    groups = [group("0", branch(Role.CHOSEN, a), branch(Role.REJECTED, b)) for a, b in sides]
    order = [i for pair in zip(chosen, rejected, strict=True) for i in pair]

    def said(logp_Y: Tensor) -> Outputs:
        """Every answer is a draw from the whole table, which is what statistics are of."""
        statistics = statistics_of(logp_Y.detach()[None])
        return Outputs(logp_Y[order], statistics={k: v.expand(len(order)) for k, v in statistics.items()})

    return Batch.of(groups), said


def test_dpo_recovers_the_optimal_policy() -> None:
    """All pairs of three answers, each as often as Bradley and Terry's model of the reward has it: the minimum of DPO
    is π* = π_ref·exp(r/β)/Z, and its implicit reward is r − β·log Z."""
    case, want = given("theory.optimal_policy"), expected("theory.optimal_policy")
    beta = case["beta"]
    ref_Y, reward_Y = torch.tensor(case["ref"]).double().log(), torch.tensor(case["reward"]).double()
    chosen, rejected = [0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]
    batch, said = table(ref_Y, chosen, rejected)
    share_P = torch.sigmoid(reward_Y[chosen] - reward_Y[rejected])
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (share_P * whole(DPO(beta=beta)(said(theta.log_softmax(0)), batch))).sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]  # LBFGS wants the value as it is
    logp_Y = theta.detach().log_softmax(0)
    assert logp_Y.exp().tolist() == pytest.approx(want["pi_star"], abs=1e-3)
    implicit_Y = beta * (logp_Y - ref_Y)
    assert implicit_Y.tolist() == pytest.approx(want["implicit_reward"], abs=1e-3)
    assert (implicit_Y - reward_Y).tolist() == pytest.approx([-want["beta_logZ"]] * 3, abs=1e-3)
    assert (logp_Y.exp() * (logp_Y - ref_Y)).sum().item() == pytest.approx(want["KL"], abs=1e-3)


CHOSEN_RISES = (CPO, DPOP, NCA, ORPO, RPO, SPPO, CalDPO, BCOPair, SLiC, Unlikelihood, AnchoredPO, DPOShift)
"""Those that want chosen more likely than it was, not only more likely than rejected."""


def descend(objective: Objective, lead: float = 0.0, *, rate: float = 0.03, steps: int = 60) -> Tensor:
    """What each of four answers gains in log-probability on the reference under the pair (0, 1); chosen begins with a
    logit of `lead` above its reference."""
    start_Y = torch.tensor([0.0, 0.5, 1.0, -1.0], dtype=torch.float64)
    ref_Y, theta = start_Y.log_softmax(0), start_Y.clone()
    theta[0] += lead
    batch, said = table(ref_Y, [0], [1])
    optimizer = torch.optim.Adam([theta.requires_grad_()], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        whole(objective(said(theta.log_softmax(0)), batch)).sum().backward()
        optimizer.step()
    return (theta.log_softmax(0) - ref_Y).detach()


@pytest.mark.parametrize("member", [m for m in get_args(OnPairs) if m is not DiscoPOP])
def test_a_table_learns_chosen_over_rejected(member: type[Objective]) -> None:
    """From the reference the odds of chosen over rejected double; and those who promise it raise chosen itself."""
    gain_Y = descend(member())
    assert (gain_Y[0] - gain_Y[1]).item() > 0.7
    if member in CHOSEN_RISES:
        assert gain_Y[0].item() > 0.1


def test_discopop_learns_between_two_margins() -> None:
    """Not convex: at β = τ = 0.05 its slope is 0 at log-ratio differences of −2.3714 and 1.44012, as its paper says.
    Pairs between them, so all at the reference, are pulled back to the first; those beyond gain. From τ = 0.103 on, as
    (1 − ln 2)/(4τ) < ¾, the slope at the reference points the right way."""
    for at in (-2.3714, 1.44012):
        margin = torch.tensor(0.05 * at, dtype=torch.float64, requires_grad=True)
        modulated(margin, 0.05).backward()
        assert margin.grad is not None
        assert abs(margin.grad.item()) < 1e-4
    for tau, sign in ((0.05, 1.0), (0.102, 1.0), (0.103, -1.0)):
        margin = torch.zeros((), dtype=torch.float64, requires_grad=True)
        modulated(margin, tau).backward()
        assert margin.grad is not None
        assert margin.grad.sign().item() == sign
    back_Y, gained_Y = descend(DiscoPOP(), steps=400), descend(DiscoPOP(), lead=2.0)
    assert (back_Y[0] - back_Y[1]).item() == pytest.approx(-2.3714, abs=1e-3)
    assert (gained_Y[0] - gained_Y[1]).item() > 2.5


def test_anchored_down_lowers_both_and_rejected_further() -> None:
    gain_Y = descend(AnchoredPO(beta=1.0, anchor="down"), rate=0.05, steps=400)
    assert gain_Y[1] < gain_Y[0] - 1 < -1
