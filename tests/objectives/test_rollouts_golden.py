"""Objectives on rollouts: the golden vectors, values by hand, and what they are to each other at ratio 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from support.golden import expected, given
from support.scenes import Scene, branch, evaluate, even, group, near, outputs, total, whole
from support.scenes import rollouts as painted
from twofold.batch import Batch, Outputs, Role
from twofold.models.logprob import entropies_of
from twofold.objectives import GRPO, PPO, RLOO, Reinforce
from twofold.objectives.base import Objective


def scene(new: list[Any], old: list[Any], ref: list[Any], advantages: Sequence[Any]) -> Scene:
    """One prompt, completions of these log-probabilities per token."""
    branches = [
        branch(Role.DRAFT, torch.tensor(r, dtype=torch.float64)).with_columns(
            {"old_logp": torch.tensor(o, dtype=torch.float64), "advantage": a}
        )
        for o, r, a in zip(old, ref, advantages, strict=True)
    ]
    return [group("0", *branches)], [[torch.tensor(n, dtype=torch.float64) for n in new]]


def test_ppo_by_hand() -> None:
    """The vector's tokens with its whitened advantages: −min(ρ·A, clip(ρ, 0.8, 1.2)·A), whose mean = −0.0096."""
    case, want = given("ppo.full_step"), expected("ppo.full_step")
    columns = zip(case["old_logp"], case["ref_logp"], case["new_logp"], want["whitened"], strict=True)
    old, ref, new, advantages = (
        [x if i == 3 else [x] for x in row] for i, row in enumerate(zip(*columns, strict=True))
    )
    loss, grad_S, batch = evaluate(PPO(), scene(new, old, ref, advantages), even=False)
    (term,) = loss.terms.values()
    assert term.value.tolist() == pytest.approx(want["pg_loss_tokens"], abs=1e-9)
    assert total(loss, batch).item() == near(want["pg_loss"])
    assert loss.metrics["ratio"].value.tolist() == near(want["ratio"])
    assert loss.metrics["clipped"].value.mean().item() == pytest.approx(want["clipfrac"], abs=1e-9)
    assert loss.metrics["approx_kl"].value.mean().item() == near(want["approx_kl"])
    assert grad_S.tolist() == near([0.0, -0.6703200460356393 * want["whitened"][1] / 3, -want["whitened"][2] / 3])


def test_the_entropy_bonus_by_hand() -> None:
    """Schulman et al., equation 9: c₂·S[π] of each token's whole distribution, in the same mean as the surrogate.

    π = (1/2, 1/4, 1/4) has S = 1.5·ln 2 = 1.0397207708, π = (0.9, 0.05, 0.05) has 0.3943976914; their mean is
    0.7170592311. With A = 1 and ρ = 1 the surrogate is −1, so with c₂ 0.1 the loss is −1.0717059231. By a logit,
    ∂(−S)/∂z = π·(log π + S), which for the first π is (1/2·0.3465735903, 1/4·(−0.3465735903), …).
    """
    share_SV = torch.tensor([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]], dtype=torch.float64)
    logits_SV = share_SV.log().requires_grad_()
    token_S = torch.tensor([0, 1])
    logp_S = logits_SV.log_softmax(-1).gather(1, token_S[:, None]).squeeze(1)
    same = logp_S.detach().tolist()
    batch = Batch.of(scene([same], [same], [same], [1.0])[0])
    told = Outputs(logp_S, statistics={"entropy": entropies_of(logits_SV)})
    loss, plain = PPO(entropy=0.1)(told, batch), PPO()(told, batch)
    assert total(loss, batch).item() == pytest.approx(-1.071705923114368, abs=1e-12)
    assert total(plain, batch).item() == pytest.approx(-1.0, abs=1e-12)
    assert loss.metrics["entropy"].value.tolist() == near([1.0397207708399179, 0.39439769144744277])
    (grad_SV,) = torch.autograd.grad(total(loss, batch) - total(plain, batch), logits_SV)
    want = [0.1 / 2 * x for x in (0.17328679513998632, -0.08664339756999316, -0.08664339756999316)]
    assert grad_SV[0].tolist() == near(want)
    assert "entropy" not in plain.metrics


@pytest.mark.parametrize(("average", "name"), [("completion", "grpo"), ("token", "bnpo"), ("constant", "dr_grpo")])
def test_grpo_averages(average: Any, name: str) -> None:
    case, want = given("grpo.loss"), expected("grpo.loss")
    length = case["max_completion_length"] if average == "constant" else None
    objective = GRPO(beta=case["beta"], clip=case["clip"], average=average, length=length)
    told = scene(case["new_logp"], case["old_logp"], case["ref_logp"], case["advantages"])
    loss, _, batch = evaluate(objective, told, even=False)
    assert total(loss, batch).item() == near(want[name])
    if average == "token":
        assert whole(loss).tolist() == near([x for row in want["per_token"] for x in row])


def test_grpo_by_hand() -> None:
    """One token each, A = ±1, ρ = 1.5 and 1, β 0: −min(1.5, 1.2) = −1.2 and −min(−1, −1) = 1, in the mean −0.1."""
    loss, grad_B, batch = evaluate(
        GRPO(beta=0.0), scene([[math.log(0.3)], [-1.0]], [[math.log(0.2)], [-1.0]], [[0.0], [0.0]], [1.0, -1.0])
    )
    assert total(loss, batch).item() == pytest.approx(-0.1, abs=1e-12)
    assert grad_B.tolist() == near([0.0, 0.5])


def test_grpo_may_go_further_up_than_down() -> None:
    """DAPO: ε is 0.2 below 1 and 0.28 above. A = 1 at ρ = 1.5 and 1.25 gains 1.28 and 1.25; A = −1 at ρ = 0.75 costs
    0.8, as with one ε. Only the first and the last are stopped."""
    moved = [[math.log(r)] for r in (1.5, 1.25, 0.75)]
    told = scene(moved, [[0.0]] * 3, [[0.0]] * 3, [1.0, 1.0, -1.0])
    loss, grad_B, _ = evaluate(GRPO(beta=0.0, clip=0.2, clip_high=0.28), told)
    assert whole(loss).tolist() == near([-1.28, -1.25, 0.8])
    assert loss.metrics["clipped"].value.tolist() == [1, 0, 1]
    assert grad_B.tolist() == near([0.0, -1.25 / 3, 0.0])
    one, _, _ = evaluate(GRPO(beta=0.0, clip=0.2), told)
    assert whole(one).tolist() == near([-1.2, -1.2, 0.8])
    assert one.metrics["clipped"].value.tolist() == [1, 1, 1]


def test_rloo_by_hand() -> None:
    """−A·log π: A = (0.7, −0.5667, −0.7667, 0.6333) on log π = (−20, −22, −25, −19) gives −1.4 in the mean."""
    case, want = given("rloo"), expected("rloo")
    logps = [even(x, 4).tolist() for x in case["logp"]]
    told = scene(logps, logps, logps, want["advantages"])
    loss, grad_B, batch = evaluate(RLOO(), told)
    assert total(loss, batch).item() == near(want["reinforce_loss"])
    assert grad_B.tolist() == near(want["grad_logp"])
    loss, grad_B, batch = evaluate(RLOO(clip=0.2), told)
    assert total(loss, batch).item() == near(want["ppo_form_loss_at_ratio1"])
    assert grad_B.tolist() == near(want["grad_logp"])


def test_reinforce_by_hand() -> None:
    """A = 2 on two tokens of log π = −1 each, alone in its rollout: −2·(−2) = 4, and each token's gradient is −2."""
    loss, grad_B, batch = evaluate(Reinforce(), scene([[-1.0, -1.0]], [[0.0, 0.0]], [[0.0, 0.0]], [2.0]))
    assert total(loss, batch).item() == 4.0
    assert grad_B.tolist() == [-2.0]


@pytest.mark.parametrize(
    "objective",
    [
        PPO(average="constant", length=1),
        GRPO(beta=0.0, average="constant", length=1),
        RLOO(),
        RLOO(clip=0.2),
    ],
    ids=str,
)
def test_at_ratio_1_the_gradient_is_reinforces(objective: Objective) -> None:
    """Whatever is clipped: nothing has moved yet. Averages differ from it by lengths alone."""
    groups, logps = painted(5, torch.Generator().manual_seed(1))
    fresh = [g.with_columns([{"old_logp": logp} for logp in row]) for g, row in zip(groups, logps, strict=True)]
    _, mine, _ = evaluate(objective, (fresh, logps))
    _, plain, _ = evaluate(Reinforce(), (fresh, logps))
    assert mine.tolist() == near(plain.tolist())
    assert plain.abs().max() > 0.01


def test_what_is_told_of_drafts() -> None:
    """Log-ratios to the old policy of 0.2 and −0.4 (a token of each of two drafts), to the reference of 1 and 3."""
    told = scene([[-1.0, -1.0], [-2.0]], [[-1.2, -1.0], [-1.6]], [[-1.5, -1.5], [-5.0]], [1.0, -1.0])
    for objective in (PPO(), GRPO(), RLOO(clip=0.2), Reinforce()):
        metrics = evaluate(objective, told, even=False)[0].metrics
        assert metrics["draft_logp"].value.tolist() == near([-2.0, -2.0])
        assert metrics["draft_length"].value.tolist() == [2, 1]
        assert metrics["approx_kl"].value.tolist() == near([0.02, 0.0, 0.08])
        assert metrics["draft_kl"].value.tolist() == near([1.0, 3.0])
        assert (metrics["advantage"].value.tolist(), metrics["advantage"].spread) == ([1.0, -1.0], True)
        units = {
            name: metrics[name].unit for name in ("draft_logp", "draft_length", "approx_kl", "draft_kl", "advantage")
        }
        assert units == {**dict.fromkeys(units, "branch"), "approx_kl": "token"}
    bare = told[0][0].only_columns(["advantage"])
    assert {"approx_kl", "draft_kl"}.isdisjoint(Reinforce()(outputs(told[1]), Batch.of([bare])).metrics)


def test_an_advantage_of_every_token_is_its_own() -> None:
    """From a value model: 1 and −1 within one completion."""
    (whole_group,), logps = scene([[-1.0, -1.0]], [[-1.0, -1.0]], [[-1.0, -1.0]], [5.0])
    own = whole_group.with_columns([{"advantage": torch.tensor([1.0, -1.0])}])
    bare = replace(own, branches=(replace(own.branches[0], columns={}),))
    loss, _, _ = evaluate(PPO(), ([bare], logps), even=False)
    assert loss.terms["ppo"].value.tolist() == [-1.0, 1.0]
    told = loss.metrics["advantage"]
    assert (told.value.tolist(), told.unit, told.spread) == ([1.0, -1.0], "token", True)


def test_a_completion_of_one_action_is_clipped_as_one() -> None:
    """RLOO: a completion e^0.3 as likely as it was, its tokens by e^0.6 and e^−0.3; the bound is 1.2."""
    told = scene([[-1.0, -1.0], [-1.0, -1.0]], [[-1.6, -0.7]] * 2, [[0.0, 0.0]] * 2, [1.0, -1.0])
    loss, grad_S, _ = evaluate(RLOO(clip=0.2), told, even=False)
    rise = math.exp(0.3)
    assert loss.metrics["ratio"].value.tolist() == near([rise, rise])
    assert loss.terms["rloo"].value.tolist() == near([-1.2, rise])
    assert (loss.metrics["clipped"].value.tolist(), loss.metrics["clipped"].unit) == ([1.0, 0.0], "branch")
    assert grad_S.tolist() == near([0.0, 0.0, rise / 2, rise / 2])
