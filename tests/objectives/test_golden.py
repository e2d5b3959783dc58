"""The golden vectors that objectives answer for, and a value derived by hand for each objective."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from support.golden import cases, expected, given
from support.scenes import Scene, branch, evaluate, even, group, near, pairs, spread, total
from twofold.batch import Role
from twofold.objectives import DPO, SFT, PDPOGenerator
from twofold.objectives.base import Loss

ADVANTAGES = ["ppo.full_step", "ppo.adaptive_kl", "ppo.sequence_kl_shaped_reward", "rloo", "grpo.advantage"]
ON_SCORES = ["rm.plackett_luce_k3", "rm.instructgpt_k3", "rm.bradley_terry", "rm.bt_margin", "rm.bt_centered"]
ON_PAIRS = [
    "dpo.reference_free", "dpo.cdpo_label_smoothing", "dpo.robust", "dpo.ipo_sum", "dpo.ipo_avg", "dpo.hinge",
    "dpo.sigmoid_norm", "dpo.ld_dpo", "dpo.dpo_shift_fixed", "dpo.dpop_lambda5", "dpo.dpop_lambda50",
    "dpo.cal_dpo_coef1.0", "dpo.cal_dpo_coef0.5", "dpo.nca_pair", "dpo.bco_pair", "dpo.exo_pair", "dpo.sppo_hard",
    "dpo.sppo_soft", "dpo.apo_zero", "dpo.apo_down", "dpo.discopop", "dpo.f_forward_kl", "dpo.f_js", "dpo.f_alpha0.5",
    "dpo.rpo_sft", "dpo.wpo_weight", "unlikelihood.dpo_paper", "unlikelihood.welleck_token", "simpo", "orpo", "cpo",
]  # fmt: skip

COVERED: dict[str, str] = {
    "prim.logsigmoid": "here",
    "prim.sequence_logp": "tests/models/test_logprob.py",
    "prim.entropy_and_kl": "tests/objectives/test_kl.py",
    "prim.kl_estimators": "tests/objectives/test_kl.py",
    "sft.nll": "here",
    "dpo.sigmoid": "here",
    "dpo.at_reference": "here",
    "dpo.extreme": "here",
    "pdpo.hinge": "here",
    "pdpo.at_reference": "here",
    "pdpo.naive": "here",
    "pdpo.softplus": "here",
    "pdpo.squared_hinge": "here",
    "pdpo.length_normalised": "here",
    "pdpo.combined": "here",
    "pdpo.verifier_gated": "tests/objectives/test_pdpo_options.py",
    "pdpo.loo_baseline": "tests/objectives/test_pdpo_options.py",
    "pdpo.proximal_clip": "tests/objectives/test_pdpo_options.py",
    "pdpo.expectation_identities": "tests/objectives/test_tabular.py",
    "pdpo.naive_temperature_bias": "tests/objectives/test_tabular.py",
    "pdpo.two_arm_threshold": "tests/objectives/test_tabular.py",
    "theory.optimal_policy": "tests/objectives/test_tabular_pairs.py",
    "pl.dpo_k3": "tests/objectives/test_plackett_luce.py",
    "pl.k2_equals_dpo": "tests/objectives/test_plackett_luce.py",
    "dpo.xpo": "tests/objectives/test_bandit_pairs.py",
    "dpo.tr_dpo_soft_update": "tests/models/test_moving_reference.py",
    "dpo.infonca_k3": "tests/objectives/test_infonca.py",
    "dpo.bco_shifted": "tests/objectives/test_bco.py",
    "dpo.nca_k3": "tests/objectives/test_infonca.py",
    "kto": "tests/objectives/test_kto.py",
    "kto.z0_clamped": "tests/training/test_kl_baseline.py",
    **dict.fromkeys(ADVANTAGES, "tests/objectives/test_advantages.py"),
    "grpo.loss": "tests/objectives/test_rollouts_golden.py",
    "bon.discrete": "tests/sampling/test_best_of_n.py",
    **dict.fromkeys([f"bon.kl_bound_n{n}" for n in (1, 2, 4, 16, 64, 128)], "tests/sampling/test_best_of_n.py"),
    "rtoq.beam_vs_greedy": "tests/sampling/test_beam.py",
    "eval.pass_at_k": "tests/evaluation/test_pass_at_k.py",
    "rtoq.two_token_mdp": "tests/analysis/test_credit.py",
    **dict.fromkeys(
        ["eval.win_rate", "eval.gsm8k_ci", "eval.mcnemar"], "tests/statistics/test_statistics_of_comparisons.py"
    ),
    **dict.fromkeys(ON_SCORES, "tests/objectives/test_reward_objectives.py"),
    **dict.fromkeys(ON_PAIRS, "tests/objectives/test_pairs_golden.py"),
}


def test_every_golden_vector_is_covered() -> None:
    assert set(COVERED) == set(cases())
    assert len(cases()) == 86


def drafts(case: dict[str, Any]) -> Scene:
    truth = {
        "truth_logratio": case["policy_gt_logp"] - case["ref_gt_logp"],
        "truth_length": float(case.get("gt_len", 1)),
    }
    lengths = case.get("gen_len", [2] * len(case["ref_gen_logp"]))
    branches = [branch(Role.DRAFT, even(r, n), truth) for r, n in zip(case["ref_gen_logp"], lengths, strict=True)]
    logps = [even(p, n) for p, n in zip(case["policy_gen_logp"], lengths, strict=True)]
    return [group("0", *branches)], [logps]


def values(loss: Loss) -> list[float]:
    (term,) = loss.terms.values()
    return term.value.tolist()


def test_logsigmoid() -> None:
    """Through DPO: −loss at a margin of x. At −1000 the naive form is −inf, at 40 it is 0."""
    case, want = given("prim.logsigmoid"), expected("prim.logsigmoid")
    zero = [0.0] * len(case["x"])
    references = {"ref_chosen_logps": zero, "ref_rejected_logps": zero}
    scene = pairs({**references, "policy_chosen_logps": case["x"], "policy_rejected_logps": zero})
    loss, _, _ = evaluate(DPO(beta=1.0), scene)
    found = [-v for v in values(loss)]
    assert found == pytest.approx(want["logsigmoid"], rel=1e-12)
    assert found[0] == -1000
    assert loss.metrics["gradient_weight"].value.tolist() == pytest.approx(want["sigmoid"][::-1], rel=1e-12)


def test_dpo_sigmoid() -> None:
    case, want = given("dpo.sigmoid"), expected("dpo.sigmoid")
    loss, grad_B, batch = evaluate(DPO(beta=case["beta"]), pairs(case))
    assert values(loss) == near(want["loss"])
    assert total(loss, batch).item() == near(want["loss_mean"])
    found = {name: term.value.tolist() for name, term in loss.metrics.items()}
    assert found["chosen_reward"] == near(want["chosen_rewards"])
    assert found["rejected_reward"] == near(want["rejected_rewards"])
    assert found["margin"] == near(want["margin"])
    assert found["gradient_weight"] == near(want["gradient_weight"])
    assert sum(found["accuracy"]) / 2 == want["accuracy"]
    assert found["chosen_logp"] == near(case["policy_chosen_logps"])
    assert found["rejected_logp"] == near(case["policy_rejected_logps"])
    assert (found["chosen_length"], found["rejected_length"]) == ([3, 3], [2, 2])
    assert (2 * grad_B[0::2]).tolist() == near(want["grad_policy_chosen"])
    assert (2 * grad_B[1::2]).tolist() == near(want["grad_policy_rejected"])


def test_dpo_at_reference() -> None:
    case, want = given("dpo.at_reference"), expected("dpo.at_reference")
    loss, grad_B, _ = evaluate(DPO(beta=case["beta"]), pairs(case))
    assert values(loss) == near(want["loss"])
    assert grad_B.tolist() == near([*want["grad_policy_chosen"], *want["grad_policy_rejected"]])


def test_dpo_extreme() -> None:
    case, want = given("dpo.extreme"), expected("dpo.extreme")
    loss, grad_B, _ = evaluate(DPO(beta=case["beta"]), pairs(case))
    assert values(loss) == near(want["loss"])
    assert (2 * grad_B[0::2]).tolist() == near(want["grad_policy_chosen"])


def test_sft_nll() -> None:
    """Both averages, and what the step makes of them: Σ over tokens / tokens, or Σ over completions / completions."""
    case, want = given("sft.nll"), expected("sft.nll")
    groups = [group(str(i), branch(Role.DEMONSTRATION, torch.zeros(n).double())) for i, n in enumerate(case["lens"])]
    logps = [[spread(p, n)] for p, n in zip(case["logp"], case["lens"], strict=True)]
    by_token, grad_B, batch = evaluate(SFT(), (groups, logps))
    assert total(by_token, batch).item() == near(want["batch_token_mean"])
    assert grad_B.tolist() == near([-1 / 35, -1 / 35])
    by_completion, grad_B, batch = evaluate(SFT(average="completion"), (groups, logps))
    assert values(by_completion) == near(want["nll_sum"])
    assert total(by_completion, batch).item() == near(want["nll_sum_mean"])
    assert grad_B.tolist() == near([-1 / 2, -1 / 2])
    assert by_token.metrics["demonstration_logp"].value.tolist() == near(case["logp"])
    assert by_token.metrics["demonstration_length"].value.tolist() == case["lens"]


FORMS = {"hinge": "hinge", "naive": "unhinged", "softplus": "softplus"}


@pytest.mark.parametrize("name", FORMS)
def test_pdpo_forms(name: str) -> None:
    case, want = given(f"pdpo.{name}"), expected(f"pdpo.{name}")
    loss, grad_B, batch = evaluate(PDPOGenerator(beta=case["beta"], form=FORMS[name]), drafts(case))
    assert values(loss) == near(want["loss"])
    assert total(loss, batch).item() == near(want["loss_mean"])
    assert grad_B.tolist() == near(want["grad_gen_mean_reduction"])


def test_the_square_of_an_open_gap() -> None:
    """A hinge that is squared is the form `square` where the gap is open, and 0 elsewhere."""
    case, want = given("pdpo.squared_hinge"), expected("pdpo.squared_hinge")
    loss, grad_B, _ = evaluate(PDPOGenerator(beta=case["beta"], form="square"), drafts(case))
    open_B = loss.metrics["active"].value
    assert (loss.terms["pdpo"].value * open_B).tolist() == near(want["loss"])
    assert (grad_B * open_B).tolist() == near(want["grad_gen_mean_reduction"])


def test_pdpo_hinge_metrics_and_the_kink() -> None:
    """The third draft has a gap of exactly 0, and no gradient."""
    case, want = given("pdpo.hinge"), expected("pdpo.hinge")
    loss, grad_B, _ = evaluate(PDPOGenerator(beta=case["beta"]), drafts(case))
    found = {name: term.value.tolist() for name, term in loss.metrics.items()}
    assert found["gap"] == near(want["gap"])
    assert found["draft_reward"] == near(want["r_gen"])
    assert found["truth_reward"] == near([want["r_gt"]] * 3)
    assert found["active"] == [1.0, 0.0, 0.0] == [float(a) for a in want["active_strict"]]
    assert grad_B[2].item() == 0.0
    assert found["draft_kl"] == near([1.0, 6.0, 5.0])
    assert (found["draft_logp"], found["draft_length"]) == (near(case["policy_gen_logp"]), [2, 2, 2])


def test_pdpo_at_reference() -> None:
    case, want = given("pdpo.at_reference"), expected("pdpo.at_reference")
    loss, grad_B, _ = evaluate(PDPOGenerator(beta=case["beta"]), drafts(case))
    assert loss.metrics["gap"].value.tolist() == want["gap"] == [0.0, 0.0]
    assert values(loss) == [0.0, 0.0]
    assert grad_B.tolist() == want["grad_gen_relu"] == [0.0, 0.0]


def test_pdpo_length_normalised() -> None:
    case, want = given("pdpo.length_normalised"), expected("pdpo.length_normalised")
    loss, _, batch = evaluate(PDPOGenerator(beta=case["beta"], per_token=True), drafts(case))
    assert loss.metrics["gap"].value.tolist() == near(want["gap"])
    assert values(loss) == near(want["loss"])
    assert total(loss, batch).item() == near(want["loss_mean"])


def test_pdpo_combined() -> None:
    case, want = given("pdpo.combined"), expected("pdpo.combined")
    d, _, pair_batch = evaluate(DPO(beta=case["beta"]), pairs(case))
    g, _, draft_batch = evaluate(PDPOGenerator(beta=case["beta"]), drafts(case["generator"]))
    whole = total(d, pair_batch).item(), total(g, draft_batch).item()
    assert whole == near((want["L_D"], want["L_G"]))
    assert whole[0] + case["gamma"] * whole[1] == near(want["L"])


def test_sft_by_hand() -> None:
    """A token of probability 1/2 and one of 1/8: −log π = ln 2 + 3 ln 2 = 4 ln 2 per completion, 2 ln 2 per token."""
    scene = ([group("0", branch(Role.DEMONSTRATION, torch.zeros(2)))], [[torch.tensor([0.5, 0.125]).double().log()]])
    by_token, grad_B, batch = evaluate(SFT(), scene)
    assert total(by_token, batch).item() == near(2 * math.log(2))
    assert grad_B.tolist() == near([-0.5])
    assert values(evaluate(SFT(average="completion"), scene)[0]) == near([4 * math.log(2)])


def test_dpo_by_hand() -> None:
    """log-ratios of ln 3 and 0 at β = 1: −log σ(ln 3) = −log(3/4) = ln(4/3), and the gradient is ∓(1 − σ) = ∓1/4."""
    scene = pairs({
        "ref_chosen_logps": [-2.0], "ref_rejected_logps": [-5.0], "policy_chosen_logps": [-2.0 + math.log(3)],
        "policy_rejected_logps": [-5.0],
    })  # fmt: skip
    loss, grad_B, _ = evaluate(DPO(beta=1.0), scene)
    assert values(loss) == near([math.log(4 / 3)])
    assert grad_B.tolist() == near([-0.25, 0.25])


def test_pdpo_generator_by_hand() -> None:
    """β = 1/2, truth 3 nats above its reference, drafts 1 above and 4 above: gaps 1.5 − 0.5 = 1 and 1.5 − 2 = −0.5; the
    hinge keeps the first, so L_G = (1 + 0)/2 = 1/2, and its gradient by log π of the first draft is −β/2 = −1/4."""
    scene = drafts(
        {"policy_gt_logp": -7.0, "ref_gt_logp": -10.0, "policy_gen_logp": [-4.0, -4.0], "ref_gen_logp": [-5.0, -8.0]}
    )
    loss, grad_B, batch = evaluate(PDPOGenerator(beta=0.5), scene)
    assert loss.metrics["gap"].value.tolist() == near([1.0, -0.5])
    assert total(loss, batch).item() == near(0.5)
    assert grad_B.tolist() == near([-0.25, 0.0])


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for make in (DPO, PDPOGenerator):
        with pytest.raises(ValueError, match="beta must be > 0"):
            make(beta=0.0)
    with pytest.raises(TypeError, match="gamma"):
        DPO(gamma=1.0)  # type: ignore[call-arg]  # that is the point
