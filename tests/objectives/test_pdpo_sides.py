"""PDPO's generator on the ground truth's side, its KL, and the judge's gate: gradients by hand on tables of logits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from support.pdpo_scenes import REF, found, learn, scene
from support.scenes import Scene, branch, evaluate, even, group, near, total
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import DPO, PDPOGenerator


def faced(drafts: list[tuple[float, float]], truth: tuple[float, float], *correct: float) -> Scene:
    """Drafts of two tokens and, behind them, their ground truth of four: (log π, log π_ref) of each."""
    verdicts = [{"correct": c} for c in (*correct, 1.0)] if correct else [{}] * (len(drafts) + 1)
    sides = [branch(Role.DRAFT, even(ref, 2)) for _, ref in drafts] + [branch(Role.TRUTH, even(truth[1], 4))]
    made = group("0", *(b.with_columns(v) for b, v in zip(sides, verdicts, strict=True)))
    return [made], [[*(even(logp, 2) for logp, _ in drafts), even(truth[0], 4)]]


BELOW, ABOVE = (-20.0, -21.0), (-20.0, -27.0)
"""Log-ratios 1 and 7, beside a truth's 5."""
TRUTH = (-30.0, -35.0)


def gradients(objective: PDPOGenerator, made: Scene) -> list[float]:
    """By each branch's log-probability, times the number of drafts."""
    _, grad_B, batch = evaluate(objective, made)
    return (grad_B * batch.count("branch:draft")).tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gradient_to": "truth"}, [0, 0, -1]),
        ({"gradient_to": "both"}, [-1, 0, -1]),
        ({"gradient_to": "both", "direction": "down"}, [0, 1, -1]),
        ({"gradient_to": "truth", "margin": -3.0}, [0, 0, 0]),
        ({"gradient_to": "truth", "margin": 5.0}, [0, 0, -2]),
        ({"gradient_to": "truth", "form": "unhinged"}, [0, 0, -2]),
        ({"gradient_to": "both", "form": "unhinged", "margin": 1.0}, [-1, -1, -2]),
    ],
    ids=str,
)
def test_who_is_pulled(settings: dict[str, object], expected: list[float]) -> None:
    """β = 1, gaps 4 and −2: drafts below the truth are pulled up to it, and the truth up to drafts above it."""
    objective = PDPOGenerator(beta=1.0, **settings)  # type: ignore[arg-type]  # settings by name
    assert gradients(objective, faced([BELOW, ABOVE], TRUTH)) == near(expected)


def test_the_truths_loss_and_what_is_told_of_it() -> None:
    loss, _, _ = evaluate(PDPOGenerator(beta=1.0, gradient_to="truth", margin=1.0), faced([BELOW, ABOVE], TRUTH))
    assert list(loss.terms) == ["truth"]
    assert loss.terms["truth"].value.tolist() == near([0, 3])
    assert loss.metrics["truth_active"].value.tolist() == [0, 1]
    assert loss.metrics["gap"].value.tolist() == near([4, -2])
    assert loss.metrics["truth_reward"].value.tolist() == near([5, 5])
    assert "active" not in loss.metrics


def test_per_token_the_truth_is_divided_by_its_own_length() -> None:
    """Rewards per token: drafts ½ and 7/2, the truth 5/4; its pull is −β/4 a draft above it."""
    loss, grad_B, _ = evaluate(
        PDPOGenerator(beta=1.0, gradient_to="truth", per_token=True), faced([BELOW, ABOVE], TRUTH)
    )
    assert loss.terms["truth"].value.tolist() == near([0, 2.25])
    assert (2 * grad_B).tolist() == near([0, 0, -0.25])


def test_both_downwards_is_spin_and_that_is_dpo_with_the_draft_rejected() -> None:
    """−log σ(r_GT − r(y)) by all three log-probabilities; DPO's own gradient on (truth, draft), once for each draft."""
    made = faced([BELOW, ABOVE], TRUTH)
    found = gradients(PDPOGenerator(beta=0.3, gradient_to="both", direction="down", form="softplus"), made)
    by_pair = []
    for logp, ref in (BELOW, ABOVE):
        pair = group("0", branch(Role.CHOSEN, even(TRUTH[1], 4)), branch(Role.REJECTED, even(ref, 2)))
        by_pair.append(evaluate(DPO(beta=0.3), ([pair], [[even(TRUTH[0], 4), even(logp, 2)]]))[1].tolist())
    assert found == near([by_pair[0][1], by_pair[1][1], by_pair[0][0] + by_pair[1][0]])


def test_the_truth_is_to_be_above_wrong_drafts_alone() -> None:
    """Both drafts above the truth, the first one right: under a gate it is nothing to be feared."""
    made = faced([ABOVE, ABOVE], TRUTH, 1.0, 0.0)
    for gate in ("verifier", "judge"):
        objective = PDPOGenerator(beta=1.0, gate=gate, gradient_to="truth")  # type: ignore[arg-type]  # one of Gate
        assert gradients(objective, made) == near([0, 0, -1])
        assert gradients(replace(objective, gradient_to="both", direction="down"), made) == near([0, 1, -1])
        assert gradients(replace(objective, gradient_to="both", margin=3.0), made) == near([-1, 0, -1])


def test_a_truth_of_its_own_branch_pulls_drafts_as_its_column_did() -> None:
    column = scene([BELOW[0], ABOVE[0]], [BELOW[1], ABOVE[1]], 5.0)
    for objective in (PDPOGenerator(), PDPOGenerator(form="softplus", direction="down"), PDPOGenerator(margin=3.0)):
        values, grads = found(objective, column)
        both = replace(objective, gradient_to="both")
        assert gradients(both, faced([BELOW, ABOVE], TRUTH))[:2] == near(grads)
        assert evaluate(both, faced([BELOW, ABOVE], TRUTH))[0].terms["pdpo"].value.tolist() == near(values)


def played(objective: PDPOGenerator, theta: Tensor, truth: int) -> Tensor:
    """The expected loss over all drafts of one token, their probabilities held fixed."""
    logp_Y, ref_Y = theta.log_softmax(0), torch.tensor(REF, dtype=torch.float64).log_softmax(0)
    whole = torch.zeros((), dtype=torch.float64)
    for y, chance in enumerate(theta.detach().softmax(0)):
        sides = branch(Role.DRAFT, ref_Y[y : y + 1]), branch(Role.TRUTH, ref_Y[truth : truth + 1])
        batch = Batch.of([group("0", *sides)])
        whole = whole + chance * total(objective(Outputs(logp_Y[[y, truth]]), batch), batch)
    return whole


def test_the_truths_force_is_maximum_likelihood_by_the_share_of_drafts_above_it() -> None:
    """−β·P_π(r(y) > r_GT)·∇log π(y_GT): unlike the drafts' force it does not cancel over drafts."""
    start = torch.tensor([0.3, -0.4, 0.1, 0.8], dtype=torch.float64)
    theta, truth = start.clone().requires_grad_(), 1
    (found,) = torch.autograd.grad(played(PDPOGenerator(beta=0.7, gradient_to="truth"), theta, truth), theta)
    pi_Y = start.softmax(0)
    reward_Y = start.log_softmax(0) - torch.tensor(REF, dtype=torch.float64).log_softmax(0)
    above = pi_Y[reward_Y > reward_Y[truth]].sum()
    assert 0 < above < 1
    score_Y = torch.eye(4, dtype=torch.float64)[truth] - pi_Y
    torch.testing.assert_close(found, -0.7 * above * score_Y, rtol=1e-12, atol=1e-15)


def test_a_truth_rises_to_the_top_of_its_drafts_and_no_further() -> None:
    theta, truth = torch.tensor([0.3, -0.4, 0.1, 0.8], dtype=torch.float64).requires_grad_(), 1
    optimizer = torch.optim.SGD([theta], lr=0.05)
    before = theta.detach().log_softmax(0)[truth].item()
    for _ in range(600):
        optimizer.zero_grad()
        loss = played(PDPOGenerator(beta=1.0, gradient_to="truth"), theta, truth)
        loss.backward()
        optimizer.step()
    reward_Y = theta.detach().log_softmax(0) - torch.tensor(REF, dtype=torch.float64).log_softmax(0)
    assert loss.item() == 0.0
    assert torch.count_nonzero(theta.grad) == 0
    assert reward_Y[truth] - reward_Y[[0, 2, 3]].max() == pytest.approx(0.0, abs=0.05)
    assert theta.detach().log_softmax(0)[truth] > before + 0.3


def test_the_kl_is_that_of_each_token_at_its_own_prefix() -> None:
    """Two tokens of three: the expected gradient is kl·(∇KL(π₁‖ref₁) + Σ_f π(f)·∇KL(π₂(·|f)‖ref₂(·|f))), where
    ∂KL/∂θ_j = π_j·(log π_j/ref_j − KL); the unhinged pull beside it expects 0."""
    noise = torch.Generator().manual_seed(0)
    theta, ref = (torch.randn(4, 3, generator=noise, dtype=torch.float64) for _ in range(2))
    theta.requires_grad_()
    logp, ref = theta.log_softmax(1), ref.log_softmax(1)  # row 0 the first token, row 1 + f the second after f
    pi = logp.detach().exp()
    whole = torch.zeros((), dtype=torch.float64)
    for f, s in product(range(3), repeat=2):
        columns = {"truth_logratio": 0.4, "truth_length": 2.0}
        batch = Batch.of([group("0", branch(Role.DRAFT, torch.stack([ref[0, f], ref[1 + f, s]]), columns))])
        outputs = Outputs(torch.stack([logp[0, f], logp[1 + f, s]]))
        objective = PDPOGenerator(form="unhinged", kl=0.2)
        whole = whole + pi[0, f] * pi[1 + f, s] * total(objective(outputs, batch), batch)
    (found,) = torch.autograd.grad(whole, theta)
    ratio = logp.detach() - ref
    wanted = 0.2 * pi * (ratio - (pi * ratio).sum(1, keepdim=True))
    wanted[1:] *= pi[0][:, None]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)
    assert wanted.abs().max() > 1e-2


def test_the_kl_stands_beside_the_pull_and_asks_no_gate() -> None:
    """Log-ratios 1 and 7 over two tokens: Σ ½d² = ¼ and 49/4; by a completion's tokens d = ½ and 7/2 each."""
    made = scene([-20.0, -20.0], [-21.0, -27.0], 5.0, {"correct": 0.0}, {"correct": 0.0})
    loss, grad_B, _ = evaluate(PDPOGenerator(gate="verifier", kl=0.1), made)
    assert loss.terms["kl"].value.tolist() == near([0.25, 12.25])
    assert (2 * grad_B).tolist() == near([0.05, 0.35])
    assert "kl" not in evaluate(PDPOGenerator(gate="verifier"), made)[0].terms


def test_the_kl_holds_a_gated_policy_near_its_reference() -> None:
    """A gate alone ends in the right answers; with a KL an answer keeps some of the reference's chances."""
    noise = torch.Generator().manual_seed(0)

    def draws(pi_Y: Tensor) -> list[int]:
        return torch.multinomial(pi_Y, 8, replacement=True, generator=noise).tolist()

    free = learn(PDPOGenerator(margin=9.0, gate="verifier", beta=1.0), draws)
    held = learn(PDPOGenerator(margin=9.0, gate="verifier", beta=1.0, kl=2.0), draws)
    assert free[[0, 3]].sum() < 0.02
    assert 0.2 < held[[0, 3]].sum() < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_to": "truth", "direction": "down"}, "moves no draft"),
        ({"gradient_to": "truth", "baseline": "leave_one_out"}, "moves no draft"),
        ({"gradient_to": "truth", "clip": 0.2}, "moves no draft"),
        ({"gradient_to": "both", "form": "square"}, "pushes the ground truth down too"),
        ({"kl": -0.1}, "kl must be ≥ 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PDPOGenerator(**settings)  # type: ignore[arg-type]  # what a user might write
