"""The golden vectors of objectives on pairs, and a value derived by hand where there is no vector."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from support.pair_vectors import MADE
from support.scenes import branch, evaluate, group, near, pairs, whole
from twofold.batch import Batch, Outputs, Role
from twofold.models.logprob import statistics_of
from twofold.objectives import (
    AOT,
    DPO,
    DPOP,
    EXO,
    FDPO,
    IPO,
    LDDPO,
    NCA,
    ORPO,
    RPO,
    SPPO,
    WPO,
    AlphaPO,
    DiscoPOP,
    DPOShift,
    RobustDPO,
    SLiC,
    Unlikelihood,
)
from twofold.objectives.base import Objective
from twofold.objectives.f_dpo import slope
from twofold.objectives.sppo import to_win_rate
from twofold.objectives.unlikelihood import unlikelihood


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", MADE)
def test_losses_and_gradients(name: str) -> None:
    case, want = given(name), expected(name)
    loss, grad_B, batch = evaluate(MADE[name](case), pairs(case))
    losses = want["loss"] if isinstance(want["loss"], list) else [want["loss"]]
    assert whole(loss).tolist() == near(losses)
    for side, key in enumerate(("grad_policy_chosen", "grad_policy_rejected")):
        if key in want:
            assert (batch.count("pair") * grad_B[side::2]).tolist() == near(want[key])


def test_nca_begins_at_2_ln_2() -> None:
    zero = {f"{who}_{side}_logps": [-3.0] for who in ("policy", "ref") for side in ("chosen", "rejected")}
    assert whole(evaluate(NCA(), pairs(zero))[0]).tolist() == near([expected("dpo.nca_pair")["at_reference"]])


def test_smoothed_dpo_lets_go_at_the_believed_certainty() -> None:
    """σ(β·h) = 1 − ε."""
    case, h = given("dpo.cdpo_label_smoothing"), expected("dpo.cdpo_label_smoothing")["h_at_zero_gradient"]
    at = {"logp_w": [h], "logp_l": [0.0]}
    _, grad_B, _ = evaluate(MADE["dpo.cdpo_label_smoothing"](case), pairs(at))
    assert grad_B.tolist() == near([0.0, 0.0])


@pytest.mark.parametrize("name", ["forward_kl", "js", "alpha0.5"])
def test_f_dpo_scores(name: str) -> None:
    case, want = given(f"dpo.f_{name}"), expected(f"dpo.f_{name}")
    for side in ("chosen", "rejected"):
        logratio = vector(case[f"policy_{side}_logps"]) - vector(case[f"ref_{side}_logps"])
        score = slope(logratio, "alpha" if name == "alpha0.5" else name, 0.5)  # type: ignore[arg-type]  # a divergence
        assert score.tolist() == near(want[f"{side}_score"])


def test_ld_dpo() -> None:
    """Of four chosen tokens against two rejected ones, the last two count half."""
    case, want = given("dpo.ld_dpo"), expected("dpo.ld_dpo")
    branches = (
        branch(role, vector(case[f"ref_{side}_tokens"]))
        for role, side in ((Role.CHOSEN, "chosen"), (Role.REJECTED, "rejected"))
    )
    logps = [vector(case[f"policy_{side}_tokens"]) for side in ("chosen", "rejected")]
    scene = [group("0", *branches)], [logps]
    for alpha, h in ((case["alpha"], want["h"]), (1.0, want["h_alpha1"])):
        loss, _, _ = evaluate(LDDPO(beta=case["beta"], alpha=alpha), scene, even=False)
        assert loss.metrics["margin"].value.tolist() == near([case["beta"] * h])
    loss, grad_B, _ = evaluate(LDDPO(beta=case["beta"], alpha=case["alpha"]), scene, even=False)
    assert whole(loss).tolist() == near([want["loss"]])
    slope = -case["beta"] / (1 + math.exp(case["beta"] * want["h"]))
    assert grad_B.tolist() == near([slope, slope, slope / 2, slope / 2, -slope, -slope])


def test_rpo() -> None:
    """η on the mean per token; on the sum over 10 tokens, ten times that."""
    case, want = given("dpo.rpo_sft"), expected("dpo.rpo_sft")
    mean = RPO(beta=case["beta"], eta=0.005, likelihood="mean")
    assert whole(evaluate(mean, pairs(case))[0]).tolist() == near([want["loss_a_0p005"]])
    total = RPO(beta=case["beta"], eta=0.1)
    assert whole(evaluate(total, pairs(case))[0]).tolist() == near([want["loss"]])


def test_sppo_soft() -> None:
    case, want = given("dpo.sppo_soft"), expected("dpo.sppo_soft")
    drawn = zip(case["logratios"], case["win_prob"], strict=True)
    found = [to_win_rate(vector([x]), p, case["eta"]).item() for x, p in drawn]
    assert found == near(want["loss"])


def test_sppo_reads_each_pairs_own_probability() -> None:
    """η = 10. Log-ratios of ½ and −1, P of 0.8 and 0.2: (0.5 − 3)² + (−1 + 3)² = 6.25 + 4. At P of 0.6 the targets
    are ±1, (0.5 − 1)² + (−1 + 1)² = 0.25. And one P for all is what the column says where it says that."""
    case = {"logp_w": [0.5, 0.5], "logp_l": [-1.0, -1.0]}
    groups, logps = pairs(case)
    rates = [[0.8, 1 - 0.8], [0.6, 1 - 0.6]]
    told = [g.with_columns([{"win_rate": r} for r in row]) for g, row in zip(groups, rates, strict=True)]
    loss, _, _ = evaluate(SPPO(eta=10.0, probability="data"), (told, logps))
    assert whole(loss).tolist() == near([10.25, 0.25])
    assert whole(evaluate(SPPO(eta=10.0, probability=0.8), (groups, logps))[0])[0].item() == near(10.25)


def test_wpo_weight() -> None:
    """The completion of the vector as chosen and as rejected: its weight comes squared."""
    case, want = given("dpo.wpo_weight"), expected("dpo.wpo_weight")
    logits_SV = vector(case["logits_for_positions_0_to_3"])[1:]
    statistics = statistics_of(logits_SV)
    assert statistics["log_collision"].tolist() == near(want["log_sum_pi_sq"][1:])
    logp_S = logits_SV.log_softmax(1).gather(1, torch.tensor(case["input_ids"])[2:, None]).squeeze(1)
    batch = Batch.of([group("0", branch(Role.CHOSEN, logp_S), branch(Role.REJECTED, logp_S))])
    said = Outputs(logp_S.repeat(2), statistics={name: value.repeat(2) for name, value in statistics.items()})
    greedy = (logp_S - logits_SV.log_softmax(1).amax(1)).mean().exp().item()
    for alignment, weight in (("sampled", want["w"]), ("greedy", greedy)):
        loss = WPO(alignment=alignment)(said, batch)  # type: ignore[arg-type]  # one of the three
        assert loss.metrics["pair_weight"].value.tolist() == near([weight**2])
        assert whole(loss).tolist() == near([weight**2 * math.log(2)])
    with pytest.raises(ValueError, match="gives no log_collision"):
        WPO()(Outputs(logp_S.repeat(2)), batch)


def test_welleck_token() -> None:
    """And at probability 1 the floor, without gradient."""
    case, want = given("unlikelihood.welleck_token"), expected("unlikelihood.welleck_token")
    logp_S = vector([*case["token_logps"], 0.0]).requires_grad_()
    value_S = unlikelihood(logp_S, 1e-5)
    assert value_S.tolist() == near([*want["per_token"], -math.log(1e-5)])
    value_S.sum().backward()
    odds = [math.exp(x) / (1 - math.exp(x)) for x in case["token_logps"]]
    assert logp_S.grad.tolist() == near([*odds, 0.0])
    scene = [group("0", branch(Role.CHOSEN, vector([0.0])), branch(Role.REJECTED, vector([0.0] * 3)))]
    loss, _, _ = evaluate(
        Unlikelihood(form="token", alpha=0.5), (scene, [[vector([-2.0]), vector(case["token_logps"])]]), even=False
    )
    assert whole(loss).tolist() == near([2.0 + 0.5 * want["loss"]])


def test_orpo_reports_the_odds_ratio() -> None:
    case, want = given("orpo"), expected("orpo")
    loss, _, _ = evaluate(ORPO(lam=case["lam"]), pairs(case))
    assert loss.metrics["margin"].value.tolist() == near(want["log_odds_ratio"])
    assert loss.terms["orpo"].value.tolist() == near(want["or_loss"])


def test_slic_by_hand() -> None:
    """δ = 1, λ = 1/2. log π of −4 and −4.25: max(0, 1 + 4 − 4.25) + ½·4 = 0.75 + 2 = 2.75, gradient −1 − ½ and +1.
    Of −4 and −6 the hinge is met: 0 + 2, gradient −½ and 0."""
    loss, grad_B, _ = evaluate(SLiC(), pairs({"logp_w": [-4.0, -4.0], "logp_l": [-4.25, -6.0]}))
    assert whole(loss).tolist() == near([2.75, 2.0])
    assert (2 * grad_B).tolist() == near([-1.5, 1.0, -0.5, 0.0])


def test_alpha_po_by_hand() -> None:
    """α = ½, β = 1, γ = 2 − ln 3. Tokens of a mean probability of 1/4 have r = (1 − 2)/½ = −2, those of 1/9 have
    (1 − 3)/½ = −4: they are 2 apart, and −log σ(ln 3) = ln(4/3). A nat more of a mean is worth p^(−α), so 2 and 3,
    shared by two tokens and by three: σ(−ln 3) = 1/4 of 1 each. At α = −1, r = p − 1: 1/4 − 1/9 = 5/36."""
    case = {"logp_w": [-2 * math.log(4)], "logp_l": [-3 * math.log(9)], "len_w": [2], "len_l": [3]}
    loss, grad_B, _ = evaluate(AlphaPO(alpha=0.5, beta=1.0, gamma=2 - math.log(3)), pairs(case))
    assert whole(loss).tolist() == near([math.log(4 / 3)])
    assert grad_B.tolist() == near([-1 / 4, 1 / 4])
    lower = evaluate(AlphaPO(alpha=-1.0, beta=36.0, gamma=0.0), pairs(case))[0]
    assert lower.metrics["margin"].value.tolist() == near([5.0])


def test_aot_by_hand() -> None:
    """β = 1. Chosen less rejected is ln 2 and 0 under the policy, 0 and −ln 3 under the reference. Sorted, 0 is to lead
    −ln 3 and ln 2 is to lead 0: −log σ(ln 3) = ln(4/3) stands with the second pair, −log σ(ln 2) = ln(3/2) with the
    first. Unpaired, log-ratios are 1 + ln 2 and 0 of chosen, 1 and −ln 3 of rejected: ln 2 and ln 3 again."""
    case = {
        "policy_chosen_logps": [-5 + math.log(2), -4.0], "policy_rejected_logps": [-5.0, -4.0],
        "ref_chosen_logps": [-6.0, -4.0], "ref_rejected_logps": [-6.0, -4.0 + math.log(3)],
    }  # fmt: skip
    want = [math.log(3 / 2), math.log(4 / 3)]
    for form in ("paired", "unpaired"):
        loss, grad_B, _ = evaluate(AOT(beta=1.0, form=form), pairs(case))
        assert whole(loss).tolist() == near(want)
        assert (2 * grad_B).tolist() == near([-1 / 3, 1 / 3, -1 / 4, 1 / 4])


def test_aot_of_one_pair_is_dpo() -> None:
    case = {k: v[:1] for k, v in given("dpo.sigmoid").items() if isinstance(v, list)}
    want = whole(evaluate(DPO(beta=0.3), pairs(case))[0]).tolist()
    for form in ("paired", "unpaired"):
        assert whole(evaluate(AOT(beta=0.3, form=form), pairs(case))[0]).tolist() == near(want)


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (DPO, {"label_smoothing": 0.5}, "label_smoothing must be in"),
        (RobustDPO, {"epsilon": 0.5}, "epsilon must be in"),
        (AOT, {"label_smoothing": 0.5}, "label_smoothing must be in"),
        (EXO, {"epsilon": 0.0}, "epsilon must be in"),
        (FDPO, {"alpha": 1.0}, "alpha must be in"),
        (LDDPO, {"alpha": 1.5}, "alpha must be in"),
        (DPOShift, {"f": 0.0}, "f must be in"),
        (DPOP, {"lam": -1.0}, "lam must be ≥ 0"),
        (IPO, {"tau": 0.0}, "tau must be > 0"),
        (IPO, {"nll": -1.0}, "nll must be ≥ 0"),
        (AlphaPO, {"gamma": -1.0}, "gamma must be ≥ 0"),
        (SPPO, {"probability": 0.4}, "probability must be in"),
        (DiscoPOP, {"tau": 2.0}, "tau must be in"),
        (Unlikelihood, {"floor": 0.0}, "floor must be in"),
    ],
)
def test_settings_outside_a_domain_are_refused(make: Any, given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**given)


@pytest.mark.parametrize(
    ("objective", "inside", "outside"),
    [
        (FDPO(divergence="forward_kl"), -79.0, -90.0),
        (FDPO(divergence="alpha", alpha=0.99), -79.0, -90.0),
        (ORPO(), -1e-30, 0.0),
        (AlphaPO(), -320.0, -360.0),
    ],
    ids=["forward_kl", "alpha", "orpo", "alpha_po"],
)
def test_outside_its_domain_a_loss_is_infinite_and_not_clamped(
    objective: Objective, inside: float, outside: float
) -> None:
    """Of a chosen completion with that log-probability against one of −1, in float32; the step refuses such a loss."""
    for logp, finite in ((inside, True), (outside, False)):
        batch = Batch.of([group("0", branch(Role.CHOSEN, torch.zeros(1)), branch(Role.REJECTED, torch.zeros(1)))])
        said = Outputs(torch.tensor([-1.0, logp] if isinstance(objective, ORPO) else [logp, -1.0]))
        assert bool(torch.isfinite(whole(objective(said, batch))).all()) == finite
