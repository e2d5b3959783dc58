"""What objectives on pairs are to each other, and what a constant of the prompt does to them."""

from __future__ import annotations

import pytest
import torch

from support.scenes import Scene, evaluate, gradient, preferences, whole
from twofold.batch import Batch
from twofold.objectives import (
    AOT,
    CPO,
    DPO,
    DPOP,
    EXO,
    FDPO,
    IPO,
    LDDPO,
    LNDPO,
    NCA,
    ORPO,
    RPO,
    RSO,
    SPPO,
    WPO,
    AlphaPO,
    AnchoredPO,
    BCOPair,
    CalDPO,
    DiscoPOP,
    DPOShift,
    RobustDPO,
    SimPO,
    SLiC,
    Unlikelihood,
)
from twofold.objectives.base import Objective

BETA = 0.3


def scene(seed: int = 0, count: int = 6) -> Scene:
    return preferences(count, torch.Generator().manual_seed(seed))


def raised(made: Scene, constant: float) -> Scene:
    """Chosen and rejected more likely by `constant` nats each, as if the prompt were worth it."""
    return made[0], [[x + constant / len(x) for x in row] for row in made[1]]


def assert_same(objective: Objective, other: Objective, made: Scene) -> None:
    a, b = (whole(evaluate(o, made, even=False)[0]) for o in (objective, other))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient(objective, made), gradient(other, made), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "objective",
    [
        DPO(beta=BETA, label_smoothing=0.0),
        RobustDPO(beta=BETA, epsilon=0.0),
        FDPO(beta=BETA, divergence="reverse_kl"),
        LDDPO(beta=BETA, alpha=1.0),
        DPOShift(beta=BETA, f=1.0),
        DPOP(beta=BETA, lam=0.0),
        RPO(beta=BETA, eta=0.0),
    ],
    ids=str,
)
def test_it_is_dpo_where_its_own_knob_is_at_rest(objective: Objective) -> None:
    assert_same(objective, DPO(beta=BETA), scene())


def test_alpha_divergence_lies_between_reverse_and_forward_kl() -> None:
    same_as, made = FDPO(beta=BETA, divergence="forward_kl"), scene()
    near_forward = gradient(FDPO(beta=BETA, divergence="alpha", alpha=1 - 1e-9), made)
    torch.testing.assert_close(near_forward, gradient(same_as, made), rtol=1e-6, atol=1e-9)
    near_reverse = gradient(FDPO(beta=BETA, divergence="alpha", alpha=1e-7), made)
    torch.testing.assert_close(near_reverse, gradient(DPO(beta=BETA), made), rtol=1e-5, atol=1e-8)


def test_iterative_rpo_by_either_name() -> None:
    assert_same(DPO(beta=BETA, nll=0.7), RPO(beta=BETA, eta=0.7, likelihood="mean"), scene())


def test_without_reference_dpo_with_likelihood_is_cpo() -> None:
    assert_same(DPO(beta=BETA, reference_free=True, nll=1.0), CPO(beta=BETA), scene())


def test_length_normalized_dpo_without_reference_is_simpo_without_target() -> None:
    groups, logps = scene()
    flat = [
        g.with_columns([{"ref_logp": torch.zeros(len(x))} for x in row]) for g, row in zip(groups, logps, strict=True)
    ]
    assert_same(LNDPO(beta=2.0), SimPO(beta=2.0, gamma=0.0), (flat, logps))


def test_alpha_po_is_simpo_at_its_knobs_rest_and_near_it() -> None:
    simpo = SimPO(beta=2.0, gamma=0.5)
    assert_same(AlphaPO(beta=2.0, gamma=0.5, alpha=0.0), simpo, scene())
    for alpha in (-1e-9, 1e-9):
        near_rest = gradient(AlphaPO(beta=2.0, gamma=0.5, alpha=alpha), scene())
        torch.testing.assert_close(near_rest, gradient(simpo, scene()), rtol=1e-7, atol=1e-9)


def test_under_a_uniform_reference_ipo_is_a_square_of_log_likelihoods() -> None:
    groups, logps = scene()
    flat = [
        g.with_columns([{"ref_logp": torch.zeros(len(x))} for x in row]) for g, row in zip(groups, logps, strict=True)
    ]
    for logratio in ("sum", "mean"):
        assert_same(IPO(logratio=logratio, reference_free=True), IPO(logratio=logratio), (flat, logps))
    alone, kept = (evaluate(IPO(nll=w), scene(), even=False)[0] for w in (0.0, 0.7))
    said = evaluate(CPO(nll=0.7), scene(), even=False)[0]
    torch.testing.assert_close(whole(kept) - whole(alone), 0.7 * said.terms["nll"].value)


def test_slic_with_a_mean_likelihood_is_cpo_under_a_hinge() -> None:
    kept, told = (evaluate(o, scene(), even=False)[0] for o in (SLiC(lam=0.7, likelihood="mean"), CPO(nll=0.7)))
    torch.testing.assert_close(kept.terms["nll"].value, told.terms["nll"].value)
    assert (kept.terms["nll"].weight, told.terms["nll"].weight) == (0.7, 0.7)


def test_sppo_is_two_squares_at_the_targets_of_cal_dpo() -> None:
    made = scene()
    calibration = evaluate(CalDPO(beta=0.1, coefficient=1.0), made, even=False)[0].terms["calibration"].value
    sppo = whole(evaluate(SPPO(eta=10.0), made, even=False)[0])
    torch.testing.assert_close(sppo, calibration, rtol=1e-12, atol=1e-14)


def test_wpo_weighs_the_gradient_of_dpo_and_no_more() -> None:
    """The weight is held fixed: each pair's gradient is DPO's times w(chosen)·w(rejected)."""
    made = scene()
    weight_P = evaluate(WPO(beta=BETA, alignment="none"), made, even=False)[0].metrics["pair_weight"].value
    mean = [[x.mean() for x in row] for row in made[1]]
    torch.testing.assert_close(weight_P, torch.stack([(a + b).exp() for a, b in mean]))
    batch = Batch.of(made[0])
    weight_S = weight_P[batch.group_B[batch.branch_S]]
    torch.testing.assert_close(
        gradient(WPO(beta=BETA, alignment="none"), made), weight_S * gradient(DPO(beta=BETA), made)
    )


def test_swapping_the_sides_flips_the_gradient_at_the_reference() -> None:
    """Where policy equals reference DPO pulls chosen up and rejected down alike, by β/2."""
    groups, _ = scene()
    at = groups, [[b.token_columns["ref_logp"] for b in g.branches] for g in groups]
    batch = Batch.of(groups)
    sign_S = (3.0 - 2.0 * batch.role_B)[batch.branch_S]
    torch.testing.assert_close(gradient(DPO(beta=BETA), at), -sign_S.double() * BETA / 2 / len(groups))


ABSOLUTE = (
    NCA,
    CalDPO,
    BCOPair,
    AnchoredPO,
    SPPO,
    DPOP,
    DPOShift,
    FDPO,
    RPO,
    CPO,
    SLiC,
    ORPO,
    WPO,
    AlphaPO,
    Unlikelihood,
)
"""Those that care how likely chosen and rejected are in themselves; SimPO, LNDPO and LDDPO do where lengths differ."""
RELATIVE = (DPO, IPO, RobustDPO, RSO, EXO, DiscoPOP, AOT)
"""Those that compare the two alone."""


@pytest.mark.parametrize("member", [*ABSOLUTE, *RELATIVE])
def test_a_constant_of_the_prompt(member: type[Objective]) -> None:
    """Taken from both log-probabilities it changes nothing for those that compare, and something for the others."""
    made = scene()
    before, after = (whole(evaluate(member(), s, even=False)[0]) for s in (made, raised(made, -1.5)))
    if member in ABSOLUTE:
        assert (before - after).abs().max() > 1e-6
    else:
        torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-13)
