"""Options of PDPO's generator: golden vectors, expectations over all drafts, and a table of logits that learns."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from support.pdpo_scenes import REF, THETA, Columns, found, learn, scene, table
from support.scenes import Scene, branch, evaluate, even, group, near, total
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import PDPOGenerator


def test_verifier_gated() -> None:
    """Both averages: over all drafts, the wrong ones counted as 0; and over the right ones, the wrong ones left out."""
    case, want = given("pdpo.verifier_gated"), expected("pdpo.verifier_gated")
    truth = case["policy_gt_logp"] - case["ref_gt_logp"]
    verdicts = [{"correct": float(c)} for c in case["correct"]]
    made = scene(case["policy_gen_logp"], case["ref_gen_logp"], truth, *verdicts)
    plain, gated = PDPOGenerator(beta=case["beta"]), PDPOGenerator(beta=case["beta"], gate="verifier")
    loss, _, batch = evaluate(plain, made)
    assert loss.metrics["gap"].value.tolist() == near(want["gap"])
    assert loss.terms["pdpo"].value.tolist() == near(want["loss_all"])
    assert found(gated, made)[1] == near([-0.1, 0.0, 0.0])
    assert total(evaluate(gated, made)[0], batch).item() == near(want["loss_gated_batch_mean"])
    assert evaluate(gated, made)[0].metrics["active"].value.tolist() == [1, 0, 0]
    right = [i for i, c in enumerate(case["correct"]) if c]
    (whole,), (logps,) = made
    kept: Scene = [replace(whole, branches=tuple(whole.branches[i] for i in right))], [[logps[i] for i in right]]
    loss, _, batch = evaluate(gated, kept)
    assert total(loss, batch).item() == near(want["loss_gated_active_mean"])


def test_a_gate_that_nobody_passes_is_zero_with_a_gradient_of_zero() -> None:
    made = scene([-20.0], [-21.0], 5.0, {"correct": 0.0})
    assert found(PDPOGenerator(gate="verifier"), made) == ([0.0], [0.0])


def test_leave_one_out() -> None:
    case, want = given("pdpo.loo_baseline"), expected("pdpo.loo_baseline")
    refs = [x - 1 if a else x - 9 for x, a in zip(case["gen_logp"], case["active"], strict=True)]
    made = scene(case["gen_logp"], refs, 5.0)
    loss, grad_B, batch = evaluate(PDPOGenerator(beta=case["beta"], baseline="leave_one_out"), made)
    assert loss.metrics["active"].value.tolist() == case["active"]
    assert total(loss, batch).item() == near(want["surrogate"])
    assert (-4 / case["beta"] * grad_B).tolist() == near(want["advantages"])  # nothing through the baseline


@pytest.mark.parametrize("active", [True, False])
def test_leave_one_out_of_drafts_that_are_all_alike_is_nothing(active: bool) -> None:
    made = scene([-20.0, -18.0, -25.0], [-21.0, -19.0, -26.0], 5.0 if active else -5.0)
    loss, grad_B, _ = evaluate(PDPOGenerator(baseline="leave_one_out"), made)
    assert loss.metrics["active"].value.tolist() == [float(active)] * 3
    assert grad_B.tolist() == [0.0] * 3


def test_leave_one_out_looks_at_one_prompt_alone_and_leaves_a_lone_draft() -> None:
    """Prompts with 2, 1 and 2 drafts: advantages (1, −1), (0), (0, 0)."""
    parts = [scene([-3.0, -3.0], [-4.0, -9.0], 5.0), scene([-3.0], [-4.0], 5.0), scene([-3.0, -2.0], [-4.0, -3.0], 5.0)]
    made: Scene = [p[0][0] for p in parts], [p[1][0] for p in parts]
    objective = PDPOGenerator(baseline="leave_one_out", beta=1.0)
    assert found(objective, made)[1] == near([-1.0, 1.0, 0.0, 0.0, 0.0])
    assert found(replace(objective, baseline="none"), made)[1] == near([-1.0, 0.0, -1.0, -1.0, -1.0])


def test_proximal_clip() -> None:
    case, want = given("pdpo.proximal_clip"), expected("pdpo.proximal_clip")
    old = [{"old_logp": even(x, 2)} for x in case["gen_logp_old"]]
    made = scene(case["gen_logp"], [x - 1 for x in case["gen_logp"]], 5.0, *old)
    objective = PDPOGenerator(beta=case["beta"], clip=case["eps"])
    loss, grad_B, batch = evaluate(objective, made)
    assert loss.metrics["ratio"].value.tolist() == near(want["rho"])
    assert total(loss, batch).item() == near(want["loss"])
    assert grad_B.tolist() == near(want["grad_gen"])


def test_at_a_ratio_of_one_the_clip_leaves_the_gradient_of_every_form() -> None:
    old = [{"old_logp": even(x, 2)} for x in (-20.0, -22.0)]
    made = scene([-20.0, -22.0], [-21.0, -29.0], 5.0, *old)
    for form in ("hinge", "unhinged", "softplus", "square"):
        for sign, per_token in product(("up", "down"), (False, True)):
            plain = PDPOGenerator(form=form, direction=sign, per_token=per_token)
            assert found(replace(plain, clip=0.2), made)[1] == near(found(plain, made)[1])


def test_the_clip_holds_on_both_sides() -> None:
    """Advantages 1 and −1 at ratios outside 1 ± 0.2: on the far side nothing is left, on the near side all of it."""
    for ratio, kept in ((2.0, [0.0, 2.0]), (0.5, [-0.5, 0.0])):
        old = {"old_logp": even(-20.0 - torch.tensor(ratio).log().item(), 2)}
        made = scene([-20.0, -20.0], [-21.0, -29.0], 5.0, old, old)
        objective = PDPOGenerator(beta=1.0, baseline="leave_one_out", clip=0.2)
        assert found(objective, made)[1] == pytest.approx(kept, abs=1e-6)


def test_the_margin_moves_the_place_where_the_pull_ends() -> None:
    """β = 1, log-ratios 1, 5, 7 beside a truth at 5: gaps 4, 0, −2; with a margin of 1: 5, 1, −1."""
    made = scene([-20.0] * 3, [-21.0, -25.0, -27.0], 5.0)
    assert found(PDPOGenerator(beta=1.0), made)[0] == near([4, 0, 0])
    loss, _, _ = evaluate(PDPOGenerator(beta=1.0, margin=1.0), made)
    assert loss.terms["pdpo"].value.tolist() == near([5, 1, 0])
    assert loss.metrics["active"].value.tolist() == [1, 1, 0]
    assert loss.metrics["gap"].value.tolist() == near([4, 0, -2])


def test_down_is_the_mirror_of_up() -> None:
    """Gaps 4 and −2: down, the second is pushed; softplus gives SPIN's −log σ(r_GT − r(y)), the truth held fixed."""
    made = scene([-20.0] * 2, [-21.0, -27.0], 5.0)
    assert found(PDPOGenerator(beta=1.0, direction="down"), made) == (near([0, 2]), near([0, 1]))
    spin = [-torch.tensor(gap).sigmoid().log().item() for gap in (4.0, -2.0)]
    values, grads = found(PDPOGenerator(beta=1.0, direction="down", form="softplus"), made)
    assert values == pytest.approx(spin, abs=1e-6)
    assert grads == pytest.approx([0.0179862, 0.8807971], abs=1e-6)


def test_down_the_gate_lets_wrong_drafts_through() -> None:
    made = scene([-20.0] * 2, [-27.0] * 2, 5.0, {"correct": 1.0}, {"correct": 0.0})
    assert found(PDPOGenerator(beta=1.0, direction="down", gate="verifier"), made) == (near([0, 2]), near([0, 1]))
    assert found(PDPOGenerator(beta=1.0, gate="verifier", margin=3.0), made)[0] == near([1, 0])


def expected_gradient(objective: PDPOGenerator, samples: int) -> Tensor:
    """∇ of the loss over all tuples of `samples` independent drafts, weighted by their probabilities held fixed."""
    theta = torch.tensor(THETA, dtype=torch.float64, requires_grad=True)
    pi_Y = theta.detach().softmax(0)
    whole = torch.zeros((), dtype=torch.float64)
    for drawn in product(range(4), repeat=samples):
        outputs, batch = table(theta, drawn, right=(0, 1))
        whole = whole + pi_Y[list(drawn)].prod() * total(objective(outputs, batch), batch)
    return torch.autograd.grad(whole, theta)[0]


@pytest.mark.parametrize(
    "objective",
    [
        PDPOGenerator(),
        PDPOGenerator(form="softplus", direction="down", beta=2.0),
        PDPOGenerator(gate="verifier", margin=0.05),
        PDPOGenerator(per_token=True, margin=0.05),
        PDPOGenerator(clip=0.2),
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out_changes_no_expectation(objective: PDPOGenerator, samples: int) -> None:
    """E[b·∇log π(y)] = 0 for a baseline b of the other drafts, so what is expected is what each form itself expects."""
    plain = expected_gradient(objective, 1)
    assert plain.abs().max() > 1e-3
    found = expected_gradient(replace(objective, baseline="leave_one_out"), samples)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-15)


def test_leave_one_out_expects_the_hinges_force() -> None:
    """−β·∇P_π(A), A = {y : r(y) < r_GT} held fixed."""
    want = expected("pdpo.expectation_identities")
    found = expected_gradient(PDPOGenerator(baseline="leave_one_out"), 2)
    assert found.tolist() == pytest.approx(want["minus_beta_grad_PA"], abs=1e-15)


def test_leave_one_out_shrinks_the_spread_of_the_gradient() -> None:
    """Two drafts a step: the mean square of the step's gradient, over all 16 pairs."""
    theta = torch.tensor(THETA, dtype=torch.float64, requires_grad=True)
    pi_Y, spread = theta.detach().softmax(0), {}
    for baseline in ("none", "leave_one_out"):
        objective, spread[baseline] = PDPOGenerator(margin=0.2, baseline=baseline), 0.0
        for drawn in product(range(4), repeat=2):
            outputs, batch = table(theta, drawn)
            (grad,) = torch.autograd.grad(total(objective(outputs, batch), batch), theta)
            spread[baseline] += (pi_Y[list(drawn)].prod() * grad.square().sum()).item()
    assert spread["leave_one_out"] == 0.0  # all active: no force is expected, and none is felt
    assert spread["none"] > 1e-3


def test_the_square_expects_the_gradient_of_a_kl() -> None:
    """β²·∇KL(π‖π_ref); the ground truth's reward is a baseline that cancels."""
    want = expected("pdpo.expectation_identities")
    found = expected_gradient(PDPOGenerator(form="square"), 1)
    assert found.tolist() == pytest.approx(want["beta2_grad_KL"], abs=1e-15)
    moved = expected_gradient(PDPOGenerator(form="square", margin=3.0), 1)
    assert moved.tolist() == pytest.approx(want["beta2_grad_KL"], abs=1e-15)


def test_a_gated_generator_raises_right_drafts_alone() -> None:
    """A margin keeps every draft active: gated, each right one gains on each wrong one; leave-one-out feels nothing."""
    noise = torch.Generator().manual_seed(0)

    def draws(pi_Y: Tensor) -> list[int]:
        return torch.multinomial(pi_Y, 4, replacement=True, generator=noise).tolist()

    before = torch.tensor(REF, dtype=torch.float64).softmax(0)
    objective = PDPOGenerator(margin=1.0)
    gated = learn(replace(objective, gate="verifier"), draws)
    odds = gated / before
    assert min(odds[1], odds[2]) > 3 * max(odds[0], odds[3])
    assert gated[[1, 2]].sum() > 0.8 > 0.5 > before[[1, 2]].sum()
    still = learn(replace(objective, baseline="leave_one_out"), draws)
    assert torch.equal(still, before)
    both = learn(replace(objective, gate="verifier", baseline="leave_one_out"), draws)
    assert both[[1, 2]].sum() > 0.8


def test_a_clipped_draft_rises_by_its_share_and_no_further() -> None:
    """One stale draft, 60 steps on it: the clip lets go once it is 1.2 times as likely; without it, the hinge alone."""
    old = torch.tensor(REF, dtype=torch.float64).log_softmax(0)
    rise = {}
    for clip in (None, 0.2):
        theta = torch.tensor(REF, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([theta], lr=0.05)
        stale = branch(Role.DRAFT, old[2:3], {"truth_logratio": 1.0, "truth_length": 1.0})
        batch = Batch.of([group("0", stale.with_columns({"old_logp": old[2:3]}))])
        for _ in range(60):
            optimizer.zero_grad()
            total(PDPOGenerator(beta=1.0, clip=clip)(Outputs(theta.log_softmax(0)[2:3]), batch), batch).backward()
            optimizer.step()
        rise[clip] = (theta.log_softmax(0) - old)[2].exp().item()
    assert 1.2 <= rise[0.2] < 1.3
    assert rise[None] > 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"clip": 0.0}, "clip"), ({"clip": 1.0}, "clip"), ({"form": "unhinged", "baseline": "leave_one_out"}, "unhinged")],
)
def test_options_that_cannot_be_meant_are_refused(settings: Columns, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PDPOGenerator(**settings)
