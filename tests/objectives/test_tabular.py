"""A policy that is a table of logits: what objectives do in expectation, and that they move it the right way."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from support.golden import expected, given
from support.scenes import branch, group
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import DPO, SFT, PDPOGenerator
from twofold.objectives.base import Objective
from twofold.objectives.pdpo import generator_loss


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def drafts(logp_Y: Tensor, ref_Y: Tensor, truth: int) -> Batch:
    """Every answer Y once, as a draft of one token; the ground truth is one of them."""
    columns = {"truth_logratio": (logp_Y[truth] - ref_Y[truth]).item(), "truth_length": 1.0}
    return Batch.of([group("0", *(branch(Role.DRAFT, r[None], columns) for r in ref_Y))])


def expectation(
    objective: Objective, theta: Tensor, ref_Y: Tensor, truth: int, weight_Y: Tensor | None = None
) -> Tensor:
    """The loss over drafts drawn from the policy itself (or from `weight_Y`), whose probabilities are held fixed."""
    logp_Y = theta.log_softmax(0)
    loss = objective(Outputs(logp_Y), drafts(logp_Y.detach(), ref_Y, truth))
    (term,) = loss.terms.values()
    return (term.value * (logp_Y.detach().exp() if weight_Y is None else weight_Y)).sum()


def test_expectation_identities() -> None:
    """On-policy: the un-hinged form pulls nowhere, the hinge along −β∇P(A), its square without hinge along β²∇KL."""
    case, want = given("pdpo.expectation_identities"), expected("pdpo.expectation_identities")
    theta, ref_Y, beta = vector(case["theta"]).requires_grad_(), vector(case["theta_ref"]).log_softmax(0), case["beta"]
    truth = case["gt_index"]
    (naive,) = torch.autograd.grad(expectation(PDPOGenerator(beta=beta, form="unhinged"), theta, ref_Y, truth), theta)
    (hinge,) = torch.autograd.grad(expectation(PDPOGenerator(beta=beta), theta, ref_Y, truth), theta)
    assert naive.tolist() == pytest.approx([0.0] * 4, abs=1e-15)
    assert hinge.tolist() == pytest.approx(want["hinge_grad"], abs=1e-15)
    assert hinge.tolist() == pytest.approx(want["minus_beta_grad_PA"], abs=1e-15)
    logp_Y = theta.log_softmax(0)
    loss = PDPOGenerator(beta=beta)(Outputs(logp_Y), drafts(logp_Y.detach(), ref_Y, truth))
    assert loss.metrics["gap"].value.tolist() == pytest.approx(want["gap"], abs=1e-15)
    assert loss.metrics["active"].value.tolist() == want["active"]
    pi_Y, gap_Y = logp_Y.detach().exp(), beta * (logp_Y[truth] - ref_Y[truth]).detach() - beta * (logp_Y - ref_Y)
    assert (loss.metrics["active"].value * pi_Y).sum().item() == pytest.approx(want["P_A"], abs=1e-15)
    (square,) = torch.autograd.grad((pi_Y * generator_loss(gap_Y, "square")).sum(), theta)
    assert square.tolist() == pytest.approx(want["unhinged_square_grad"], abs=1e-15)
    assert square.tolist() == pytest.approx(want["beta2_grad_KL"], abs=1e-15)


def test_naive_temperature_bias() -> None:
    """Drawn colder than the policy, the un-hinged form sharpens it: −β(q − π)."""
    case, want = given("pdpo.naive_temperature_bias"), expected("pdpo.naive_temperature_bias")
    theta = vector(case["theta"]).requires_grad_()
    cold_Y = (theta.detach() / case["T"]).softmax(0)
    assert cold_Y.tolist() == pytest.approx(want["q"], abs=1e-12)
    objective = PDPOGenerator(beta=case["beta"], form="unhinged")
    (grad,) = torch.autograd.grad(expectation(objective, theta, vector([0.0] * 4), 0, cold_Y), theta)
    assert grad.tolist() == pytest.approx(want["grad"], abs=1e-12)
    assert grad.tolist() == pytest.approx(want["minus_beta_q_minus_pi"], abs=1e-12)


def forces(h: float, q: float, beta: float) -> tuple[float, float]:
    """Derivatives by h of L_D and of E[L_G]: two answers h nats apart, the truth with reference probability q."""
    x = torch.tensor(h, dtype=torch.float64, requires_grad=True)
    ref_Y = vector([q, 1 - q]).log()
    logits = torch.stack([ref_Y[0] + x, ref_Y[1]])
    pair = Batch.of([group("0", branch(Role.CHOSEN, ref_Y[:1]), branch(Role.REJECTED, ref_Y[1:]))])
    d = DPO(beta=beta)(Outputs(logits.log_softmax(0)), pair).terms["dpo"].value.sum()
    g = expectation(PDPOGenerator(beta=beta), logits, ref_Y, 0)
    return torch.autograd.grad(d, x, retain_graph=True)[0].item(), torch.autograd.grad(g, x)[0].item()


def test_two_arm_threshold() -> None:
    """Where the generator stops the discriminator: γ_pin at the reference, γ_stop anywhere, and a stable point."""
    case, want = given("pdpo.two_arm_threshold"), expected("pdpo.two_arm_threshold")
    beta = case["beta"]

    def balance(h: float, q: float) -> float:
        d, g = forces(h, q, beta)
        return -d / g

    pins = [balance(1e-12, q) for q in case["ref_gt"]]
    stops = [minimize_scalar(balance, bounds=(1e-9, 10), args=(q,), method="bounded").fun for q in case["ref_gt"]]
    assert pins == pytest.approx(want["gamma_pin_at_ref"], rel=1e-9)
    assert stops == pytest.approx(want["gamma_stop"], abs=1e-6)
    d, g = forces(1.0, 0.5, beta)
    assert d + g == pytest.approx(want["dLdh_h1_gamma1_q05"], abs=1e-12)
    stable = brentq(
        lambda h: sum(f * w for f, w in zip(forces(h, 0.1, beta), (1, 2), strict=True)), 1.0, 2.0, xtol=1e-12
    )
    assert stable == pytest.approx(want["stable_h_q01_gamma2"], abs=1e-9)
    assert 1 / (1 + math.exp(-stable) * 9) == pytest.approx(want["stable_p_q01_gamma2"], abs=1e-9)


def descend(theta: Tensor, loss: object, steps: int = 150, rate: float = 0.5) -> None:
    optimizer = torch.optim.SGD([theta], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[operator]  # a closure
        optimizer.step()


def test_sft_learns_what_is_shown() -> None:
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    batch = Batch.of([group("0", branch(Role.DEMONSTRATION, torch.zeros(1)))])
    descend(theta, lambda: SFT()(Outputs(theta.log_softmax(0)[2:3]), batch).terms["sft"].value.sum())
    assert theta.softmax(0)[2] > 0.95


def test_dpo_prefers_chosen_and_leaves_ratios_of_others_alone() -> None:
    """The optimum of one preference is unbounded; the answers that no pair names keep their odds among themselves."""
    theta = vector([0.0, 0.5, 1.0, -1.0]).requires_grad_()
    ref_Y = theta.detach().log_softmax(0)
    batch = Batch.of([group("0", branch(Role.CHOSEN, ref_Y[:1]), branch(Role.REJECTED, ref_Y[1:2]))])
    descend(theta, lambda: DPO(beta=0.5)(Outputs(theta.log_softmax(0)[:2]), batch).terms["dpo"].value.sum())
    p, q = theta.softmax(0), ref_Y.exp()
    assert p[0] / p[1] > 20 * q[0] / q[1]
    assert (p[2] / p[3]).item() == pytest.approx((q[2] / q[3]).item(), rel=1e-9)


def test_the_generator_learns_to_lift_a_draft_to_the_truth_and_no_further() -> None:
    """Truth fixed 1 nat above its reference: the draft rises until its own log-ratio is 1, and the hinge lets go."""
    theta = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    ref_Y = theta.detach().log_softmax(0)
    columns = {"truth_logratio": 1.0, "truth_length": 1.0}
    batch = Batch.of([group("0", branch(Role.DRAFT, ref_Y[3:4], columns))])

    def loss() -> Tensor:
        return PDPOGenerator(beta=1.0)(Outputs(theta.log_softmax(0)[3:4]), batch).terms["pdpo"].value.sum()

    descend(theta, loss, rate=0.1)
    ratio = (theta.log_softmax(0) - ref_Y)[3].item()
    assert 1.0 <= ratio < 1.1
    assert loss().item() == 0.0
