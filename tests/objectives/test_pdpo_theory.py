"""docs/pdpo-theory.md: expected gradient and fixed point of three generators, by summing over all drafts of one token.

Five answers: 0 is the reference answer, 1 and 2 are right too, 3 and 4 are wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from scipy.optimize import root
from torch import Tensor

from support.scenes import branch, group, total
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import PDPOGenerator

TRUTH, RIGHT, WRONG = 0, [0, 1, 2], [3, 4]
BETA, KAPPA = 0.7, 0.25
REF = torch.tensor([0.2, -0.5, 0.4, 0.9, 0.1], dtype=torch.float64).log_softmax(0)
START = torch.tensor([0.9, -0.6, 0.1, 0.8, 0.6], dtype=torch.float64)
VERIFIED = PDPOGenerator(beta=BETA, gate="verifier", baseline="leave_one_out")
ANSWER = PDPOGenerator(beta=BETA, gate="verifier", gradient_to="truth")
ANCHORED = PDPOGenerator(beta=BETA, gate="verifier", gradient_to="both", direction="down", form="softplus", kl=KAPPA)


def expected_gradient(objective: PDPOGenerator, theta: Tensor, samples: int = 1) -> Tensor:
    """∇ of the loss over all tuples of drafts, weighted by their probabilities held fixed [answers]."""
    theta = theta.detach().clone().requires_grad_()
    logp_Y = theta.log_softmax(0)
    pi_Y = logp_Y.detach().exp()
    of_truth = {"truth_logratio": float(logp_Y.detach()[TRUTH] - REF[TRUTH]), "truth_length": 1.0}
    whole = torch.zeros((), dtype=torch.float64)
    for drawn in product(range(5), repeat=samples):
        marks = [{"correct": float(y in RIGHT), **of_truth} for y in drawn]
        drafts = [branch(Role.DRAFT, REF[y : y + 1], mark) for y, mark in zip(drawn, marks, strict=True)]
        truths = [branch(Role.TRUTH, REF[:1], {"correct": 1.0, **of_truth})]
        both = objective.gradient_to != "drafts"
        batch = Batch.of([group("0", *drafts, *(truths if both else []))])
        outputs = Outputs(logp_Y[[*drawn, *([TRUTH] if both else [])]])
        whole = whole + pi_Y[list(drawn)].prod() * total(objective(outputs, batch), batch)
    return torch.autograd.grad(whole, theta)[0]


def scored(objective: PDPOGenerator, y: int) -> float:
    """The loss of draft `y` at `START`."""
    d = float(logratios(START)[TRUTH])
    batch = Batch.of([group("0", branch(Role.DRAFT, REF[y : y + 1], {"truth_logratio": d, "truth_length": 1.0}))])
    return float(total(objective(Outputs(START.log_softmax(0)[[y]]), batch), batch))


def logratios(theta: Tensor) -> Tensor:
    return theta.log_softmax(0) - REF


def stepped(objective: PDPOGenerator, theta: Tensor, *, samples: int = 1, rate: float, steps: int) -> Tensor:
    """Logits after steps along the expected gradient."""
    for _ in range(steps):
        theta = theta - rate * expected_gradient(objective, theta, samples)
    return theta


def test_the_expected_gap_is_the_reference_answers_lead_over_the_kl() -> None:
    pi_Y, d_Y = START.softmax(0), logratios(START)
    gap_Y = [scored(PDPOGenerator(beta=BETA, form="unhinged"), y) for y in range(5)]  # the unhinged loss is the gap
    kl = (pi_Y * d_Y).sum()
    assert float((pi_Y * torch.tensor(gap_Y, dtype=torch.float64)).sum()) == pytest.approx(float(BETA * (d_Y[0] - kl)))
    assert kl > 0.05


@pytest.mark.parametrize("samples", [2, 3])
def test_verified_drafts_expect_the_rise_of_right_answers_below_the_reference_answer(samples: int) -> None:
    """−β·∇P_π(R ∩ A), R right, A below the reference answer: each right answer in A rises, every other answer falls."""
    pi_Y, d_Y = START.softmax(0), logratios(START)
    inside = torch.tensor([y in RIGHT and bool(d_Y[y] < d_Y[TRUTH]) for y in range(5)]).double()
    assert inside.tolist() == [0, 1, 1, 0, 0]
    force = BETA * pi_Y * (inside - (pi_Y * inside).sum())
    torch.testing.assert_close(expected_gradient(VERIFIED, START, samples), -force, rtol=1e-12, atol=1e-15)
    assert (force > 0).tolist() == [False, True, True, False, False]


def test_verified_drafts_end_with_every_right_answer_at_the_reference_answer() -> None:
    theta = stepped(replace(VERIFIED, baseline="none"), START, rate=0.2, steps=150)
    d_Y = logratios(theta)
    assert d_Y[[1, 2]].tolist() == pytest.approx([float(d_Y[TRUTH])] * 2, abs=0.05)
    assert float(theta.softmax(0)[WRONG].sum()) < float(START.softmax(0)[WRONG].sum()) - 0.05


@pytest.mark.parametrize("objective", [VERIFIED, ANSWER], ids=["verified", "answer"])
def test_a_hinge_does_nothing_at_the_reference_model(objective: PDPOGenerator) -> None:
    assert expected_gradient(objective, REF, 2).tolist() == [0.0] * 5


def test_the_gated_answer_expects_likelihood_by_the_chance_of_a_wrong_draft_above_it() -> None:
    """−β·P_π(W ∩ {r > r_GT})·∇log π(y_GT): all other answers fall by their share, right ones too."""
    theta = START.roll(1)
    pi_Y, d_Y = theta.softmax(0), logratios(theta)
    above = pi_Y[[y for y in WRONG if d_Y[y] > d_Y[TRUTH]]].sum()
    assert 0.1 < above < 0.9
    score_Y = torch.eye(5, dtype=torch.float64)[TRUTH] - pi_Y
    torch.testing.assert_close(expected_gradient(ANSWER, theta), -BETA * above * score_Y, rtol=1e-12, atol=1e-15)


def test_the_gated_answer_ends_where_no_wrong_answer_is_above_it() -> None:
    theta = stepped(ANSWER, START.roll(1), rate=0.1, steps=200)
    d_Y = logratios(theta)
    right_above = float(d_Y[[1, 2]].max() - d_Y[TRUTH])
    assert not expected_gradient(ANSWER, theta).any()
    assert float(d_Y[TRUTH] - d_Y[WRONG].max()) == pytest.approx(0.0, abs=0.1)
    assert right_above > 0.1, "a right answer may stay above the reference answer"


def test_the_anchored_pair_has_a_fixed_point_with_bounded_log_ratios() -> None:
    """Right answers other than the reference answer share one log-ratio k, the KL. A wrong one is at
    k − (β/κ)·σ(β(d − d_GT)), less than β/κ below; the reference answer at k + βS/(κ·π_GT), S = Σ_W π·σ(β(d − d_GT))."""
    solved = root(lambda x: expected_gradient(ANCHORED, torch.tensor(x)).numpy(), START.numpy(), tol=1e-12)
    theta = torch.tensor(solved.x)
    assert expected_gradient(ANCHORED, theta).abs().max() < 1e-9
    pi_Y, d_Y = theta.softmax(0), logratios(theta)
    k = (pi_Y * d_Y).sum()
    weight_W = (BETA * (d_Y[WRONG] - d_Y[TRUTH])).sigmoid()
    torch.testing.assert_close(d_Y[[1, 2]], k.expand(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(d_Y[WRONG], k - BETA / KAPPA * weight_W, rtol=0, atol=1e-6)
    pushed = BETA * (pi_Y[WRONG] * weight_W).sum() / (KAPPA * pi_Y[TRUTH])
    torch.testing.assert_close(d_Y[TRUTH], k + pushed, rtol=0, atol=1e-6)
    assert (k - d_Y[WRONG]).max() < BETA / KAPPA
    assert pi_Y[RIGHT].sum() > REF.exp()[RIGHT].sum() + 0.1


def test_without_its_anchor_the_pair_removes_wrong_answers() -> None:
    free = PDPOGenerator(beta=BETA, gate="verifier", gradient_to="both", direction="down", form="softplus")
    theta = stepped(free, START, rate=4.0, steps=150)
    assert theta.softmax(0)[WRONG].sum() < 0.05
    odds = theta.softmax(0)[1] / theta.softmax(0)[2]
    assert float(odds) == pytest.approx(float(START.softmax(0)[1] / START.softmax(0)[2]), rel=1e-9)
