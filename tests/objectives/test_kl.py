"""KL estimators and divergences: golden values, and in closed form the gradient that each really has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from support.scenes import near
from twofold.objectives.kl import divergence, entropy, k1, k2, k3


def test_estimators() -> None:
    case, want = given("prim.kl_estimators"), expected("prim.kl_estimators")
    logp_S, ref_S = (torch.tensor(case[name], dtype=torch.float64) for name in ("logp", "ref_logp"))
    logratio_S = logp_S - ref_S
    for name, estimator in {"k1": k1, "k2": k2, "k3": k3}.items():
        assert estimator(logratio_S).tolist() == near(want[name])
        assert estimator(logratio_S).sum().item() == near(want[f"{name}_sum"])


def test_k3_keeps_its_digits_near_0() -> None:
    """e^−d − 1 + d ≈ d²/2 − d³/6: at 1e-3 the plain form in float32 has lost them all but one."""
    assert k3(torch.tensor([1e-3, -1e-3])).tolist() == pytest.approx([4.998334e-7, 5.001667e-7], rel=1e-3)


def test_entropy_and_divergence() -> None:
    case, want = given("prim.entropy_and_kl"), expected("prim.entropy_and_kl")
    p, q = (torch.tensor(case[name], dtype=torch.float64).log() for name in "pq")
    assert entropy(p).item() == near(want["H_p"])
    assert [divergence(p, q).item(), divergence(q, p).item()] == near([want["KL_p_q"], want["KL_q_p"]])


def test_a_token_that_cannot_be_drawn_counts_nothing() -> None:
    certain, even = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log()
    assert entropy(certain).item() == 0
    assert divergence(certain, even).item() == pytest.approx(0.6931471805599453, rel=1e-6)
    assert divergence(even, certain).item() == float("inf")


def policy() -> tuple[Tensor, Tensor]:
    """Log-probabilities of a policy on four tokens, with their gradient, and of a reference."""
    logits_V = torch.tensor([0.3, -1.2, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    return logits_V, torch.tensor([0.4, 0.1, 0.2, 0.3], dtype=torch.float64).log()


def gradient(of: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    logits_V, ref_V = policy()
    (grad_V,) = torch.autograd.grad(of(logits_V.log_softmax(0), ref_V), logits_V)
    return grad_V.tolist()


def drawn(estimator: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The estimator as a loss on tokens drawn from the policy, in expectation."""
    return lambda logp_V, ref_V: (logp_V.detach().exp() * estimator(logp_V - ref_V)).sum()


def test_values_in_expectation() -> None:
    logits_V, ref_V = policy()
    logp_V = logits_V.log_softmax(0)
    exact = divergence(logp_V, ref_V).item()
    assert [drawn(k)(logp_V, ref_V).item() for k in (k1, k3)] == near([exact, exact])
    assert drawn(k2)(logp_V, ref_V).item() != pytest.approx(exact, rel=0.05)


def test_gradients_in_expectation() -> None:
    """k1 in a loss gives 0, k2 the gradient of KL(π ‖ π_ref), k3 that of KL(π_ref ‖ π); k1 in a reward as k2."""
    forward, backward = gradient(divergence), gradient(lambda logp_V, ref_V: divergence(ref_V, logp_V))
    assert gradient(drawn(k1)) == pytest.approx([0] * 4, abs=1e-15)
    assert gradient(drawn(k2)) == near(forward)
    assert gradient(drawn(k3)) == near(backward)
    assert forward != pytest.approx(backward, rel=0.1)
    in_reward = gradient(lambda logp_V, ref_V: (logp_V.detach().exp() * k1(logp_V - ref_V).detach() * logp_V).sum())
    assert in_reward == near(forward)


def rewarded(estimator: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The estimator in a reward, held fixed and times log π, in expectation."""
    return lambda logp_V, ref_V: (logp_V.detach().exp() * estimator(logp_V - ref_V).detach() * logp_V).sum()


def test_gradients_of_estimators_in_a_reward() -> None:
    """k1 gives ∇KL(π ‖ π_ref); k2 and k3 take the gradient of their own loss form from that of their expectation."""
    forward, backward = gradient(divergence), gradient(lambda logp_V, ref_V: divergence(ref_V, logp_V))
    whole = gradient(lambda logp_V, ref_V: (logp_V.exp() * k2(logp_V - ref_V)).sum())
    assert gradient(rewarded(k1)) == near(forward)
    assert gradient(rewarded(k2)) == near([w - f for w, f in zip(whole, forward, strict=True)])
    assert gradient(rewarded(k3)) == near([f - b for f, b in zip(forward, backward, strict=True)])


def test_near_the_reference_k2_and_k3_in_a_reward_hardly_pull() -> None:
    """A tenth of the way from the reference their gradient is of second order: under a tenth of k1's."""
    logits_V, ref_V = policy()
    step_V = (logits_V.detach().log_softmax(0) - ref_V) * 0.1
    found: dict[Callable[[Tensor], Tensor], float] = {}
    for estimator in (k1, k2, k3):
        theta_V = (ref_V + step_V).requires_grad_()
        (grad_V,) = torch.autograd.grad(rewarded(estimator)(theta_V.log_softmax(0), ref_V), theta_V)
        found[estimator] = grad_V.norm().item()
    assert found[k1] > 0.005
    assert max(found[k2], found[k3]) < 0.1 * found[k1]
