"""Where each method ends on a bandit: at the regularized optimum, or at a fixed point of its own."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from support.bandit import BETA, REFERENCE, REWARD, best, fixed_point, learnt, vector, worth
from support.golden import expected
from twofold.algorithms.gae import ValueModelSettings
from twofold.objectives import GRPO, PPO, RLOO, Reinforce
from twofold.objectives.advantages import of_group
from twofold.objectives.base import Objective

SAMPLES = 8


def test_the_optimum_is_the_golden_one() -> None:
    want = expected("theory.optimal_policy")
    assert best() == pytest.approx(want["beta_logZ"], abs=1e-12)
    assert worth(vector(want["pi_star"])) == pytest.approx(best(), abs=1e-12)


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        (PPO(scale="none"), {}),
        (PPO(scale="none"), {"epochs": 2, "rollouts": 12}),
        (RLOO(), {}),
        (RLOO(clip=0.2), {"epochs": 2, "rollouts": 12}),
        (Reinforce(), {}),
        (Reinforce(baseline="none"), {}),
        (PPO(scale="none"), {"value": ValueModelSettings()}),
        (PPO(scale="none"), {"value": ValueModelSettings(clip=None), "samples": 4, "epochs": 2, "rollouts": 12}),
    ],
    ids=[
        "ppo",
        "ppo, 4 steps",
        "rloo",
        "rloo, 4 steps",
        "reinforce",
        "reinforce, no baseline",
        "ppo, value",
        "ppo, value, 4 steps",
    ],
)
def test_with_the_kl_in_the_reward_they_learn_the_optimum(objective: Objective, settings: dict[str, Any]) -> None:
    assert worth(learnt(objective, kl=BETA, **settings)) > 0.98 * best()


def test_an_entropy_bonus_flattens_the_optimum() -> None:
    """The greatest E[r] − β·KL(π ‖ π_ref) + c·H(π) is at π ∝ (π_ref^β·e^r)^(1/(β + c)): with a KL of the same weight
    it is as if the entropy's weight were the sum. Source 003 writes PPO's KL as β·log π_ref and β·H."""
    found = learnt(PPO(scale="none", entropy=BETA), kl=BETA)
    want = ((BETA * vector(REFERENCE).log() + vector(REWARD)) / (BETA + BETA)).softmax(0)
    assert found.tolist() == pytest.approx(want.tolist(), abs=0.03)
    assert max(abs(found - vector(expected("theory.optimal_policy")["pi_star"]))) > 0.05


def test_the_sources_form_is_the_regularized_optimum() -> None:
    """r + β·log π_ref as the reward and β·H as the bonus (source 003, formula 2) has the optimum of r − β·KL."""
    reward_V = vector(REWARD) + BETA * vector(REFERENCE).log()
    found = learnt(PPO(scale="none", entropy=BETA), reward_V=reward_V)
    assert found.tolist() == pytest.approx(expected("theory.optimal_policy")["pi_star"], abs=0.03)


def backward(policy_V: Tensor) -> Tensor:
    """−β·∇KL(π_ref ‖ π) by the logits: what k3 in a loss pulls with."""
    return BETA * (vector(REFERENCE) - policy_V)


def forward(policy_V: Tensor) -> Tensor:
    """−β·∇KL(π ‖ π_ref) by the logits: what k2 in a loss pulls with."""
    away_V = (policy_V / vector(REFERENCE)).log()
    return -BETA * policy_V * (away_V - (policy_V * away_V).sum())


def scaled(reward_n: Tensor) -> Tensor:
    return of_group(reward_n, std=True)


def centred(reward_n: Tensor) -> Tensor:
    return of_group(reward_n, std=False)


@pytest.mark.parametrize(
    ("objective", "advantage", "pull", "lost"),
    [
        (GRPO(beta=BETA), scaled, backward, 0.023),
        (GRPO(beta=BETA, estimator="k2"), scaled, forward, 0.075),
        (GRPO(beta=BETA, scale="none"), centred, backward, 0.019),
        (GRPO(beta=BETA, scale="none", estimator="k2"), centred, forward, 0.003),
    ],
    ids=["grpo", "grpo, k2", "dr grpo", "dr grpo, k2"],
)
def test_grpo_learns_its_own_fixed_point(objective: GRPO, advantage: Any, pull: Any, lost: float) -> None:
    """E[A·∇log π] over groups of 8 balances the KL's gradient there; `lost` is the share of the optimum's worth that it
    gives away. Dr. GRPO with k2 is the optimum of rewards times 7/8: its mean counts each completion itself."""
    point_V = fixed_point(advantage, SAMPLES, pull)
    assert 1 - worth(point_V) / best() == pytest.approx(lost, abs=5e-4)
    assert learnt(objective, samples=SAMPLES).tolist() == pytest.approx(point_V.tolist(), abs=0.02)
    if lost == 0.003:
        near_V = (vector(REFERENCE).log() + 7 / 8 * vector(REWARD) / BETA).softmax(0)
        assert point_V.tolist() == pytest.approx(near_V.tolist(), abs=1e-8)


def test_grpo_does_not_see_how_large_rewards_are() -> None:
    """Divided by their standard deviation, rewards a fifth as large lead to nearly the same policy: what the optimum
    would gain over the reference, and more, is spent on KL. Without the scale it goes to where the rewards say."""
    small_V = vector(REWARD) / 5
    reference = worth(vector(REFERENCE), small_V)

    def gained(advantage: Any, pull: Any) -> float:
        point_V = fixed_point(advantage, SAMPLES, pull, small_V)
        return (worth(point_V, small_V) - reference) / (best(small_V) - reference)

    same_V, there_V = fixed_point(scaled, SAMPLES, backward, small_V), fixed_point(scaled, SAMPLES, backward)
    assert same_V.tolist() == pytest.approx(there_V.tolist(), abs=1e-3)
    assert gained(scaled, backward) < -3
    assert gained(centred, forward) > 0.97
