"""Policy gradient as an algorithm: what is drawn, rated and kept; that packing changes nothing; that it learns."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
import torch

from support import tiny
from support.rollouts_toy import STOP, algorithm, rated_by, share, text
from twofold.algorithms.policy_gradient import RewardKL
from twofold.errors import NonFiniteError
from twofold.judges.registry import RewardSource
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import GRPO, PPO, RLOO, Reinforce
from twofold.objectives.advantages import leave_one_out
from twofold.objectives.base import Objective
from twofold.rewards.rollouts import Rewards
from twofold.training.column_providers import OLD
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Step
from twofold.training.trainable import POLICY, Trainable


def stepper(policy: Policy, packing: Packing | None = None, rate: float = 2e-2) -> Step:
    optimizer = make_optimizer(AdamW(learning_rate=rate), policy.trainable())
    return Step([Trainable(POLICY, policy, optimizer)], providers={}, packing=packing or Packing(tokens=60))


def test_a_rollout_carries_its_advantages_as_columns() -> None:
    play = algorithm(tiny.policy(), RLOO(), samples=3, stop_penalty=0.5)
    round = play.round(0, {})
    (part,) = round.parts
    assert [len(g.branches) for g in part.groups] == [3] * 4
    rewards = []
    for group in part.groups:
        reward = [share("", text(b.tokens), None) - 0.5 * (int(b.tokens[-1]) not in STOP) for b in group.branches]
        found = [b.columns["advantage"] for b in group.branches]
        assert found == pytest.approx(leave_one_out(torch.tensor(reward, dtype=torch.float64)).tolist(), abs=1e-12)
        rewards += [share("", text(b.tokens), None) for b in group.branches]
    assert round.figures["reward"] == pytest.approx(statistics.fmean(rewards))
    assert round.figures["reward_std"] == pytest.approx(statistics.pstdev(rewards))
    assert round.figures["drafts"] == 12
    cut = [int(b.tokens[-1]) not in STOP for g in part.groups for b in g.branches]
    assert round.figures["truncated"] == pytest.approx(sum(cut) / 12)


def test_several_rewards_count_by_weight() -> None:
    both = (RewardSource(source="python:share", weight=2.0), RewardSource(source="python:length", weight=-0.1))
    figures = algorithm(tiny.policy(), RLOO(), reward=both).round(0, {}).figures
    assert figures["reward"] == pytest.approx(
        2 * figures["reward/python:share"] - 0.1 * figures["reward/python:length"]
    )


def test_a_reward_that_is_no_number_stops_before_the_step() -> None:
    play = algorithm(tiny.policy(), RLOO())
    play.rewards = Rewards([("nan", 1.0, rated_by(lambda prompt, completion, truth: float("nan")))])
    with pytest.raises(NonFiniteError, match="task"):
        play.round(0, {})


def test_a_rollout_serves_its_steps_and_comes_out_of_the_state() -> None:
    """Two passes of three batches over one rollout, each prompt once a pass; then the next rollout."""
    play, state = algorithm(tiny.policy(), PPO(), rollouts=12, epochs=2), {}
    rounds = []
    for step in range(7):
        rounds.append(play.round(step, state))
        state = json.loads(json.dumps(state))
    assert [r.figures["age"] for r in rounds] == [0, 1, 2, 3, 4, 5, 0]
    assert ["reward" in r.figures for r in rounds] == [True, *[False] * 5, True]
    names = [[g.name for g in r.parts[0].groups] for r in rounds]
    for each in (names[:3], names[3:6]):
        assert sorted(n for batch in each for n in batch) == sorted(t.name for t in play.tasks)
    first = {g.name: g for r in rounds[:3] for g in r.parts[0].groups}
    for group in (g for r in rounds[3:6] for g in r.parts[0].groups):
        for now, then in zip(group.branches, first[group.name].branches, strict=True):
            assert torch.equal(now.tokens, then.tokens)
            assert now.columns == then.columns
            assert torch.equal(now.token_columns[OLD], then.token_columns[OLD].double())


def test_a_step_after_the_first_the_ratio_moves_from_1() -> None:
    policy = tiny.policy()
    play, step, state = algorithm(policy, PPO(), epochs=3), stepper(policy), {}
    found = [step(play.round(s, state)) for s in range(4)]
    assert found[0]["ratio"] == pytest.approx(1, abs=1e-12)
    assert found[0]["clipped"] == found[0]["approx_kl"] == 0
    assert 0 < found[1]["approx_kl"] < found[2]["approx_kl"]
    assert found[2]["clipped"] > 0
    assert found[3]["ratio"] == pytest.approx(1, abs=1e-12)


OBJECTIVES = [PPO(), GRPO(), GRPO(average="token"), GRPO(average="constant", length=6), RLOO(), Reinforce()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_packing_and_accumulation_change_no_gradient(objective: Objective) -> None:
    """One pack or one for each prompt (gradient accumulation over 4): the same gradient and the same figures, the KL in
    the reward and in the loss among them."""
    found = []
    for tokens in (4000, 1):
        policy = tiny.lora_policy(moved=True)  # the reference is the policy without its adapter: some nats away
        packing = Packing(tokens=tokens)
        play = algorithm(policy, objective, packing, kl=RewardKL(coefficient=0.1))
        metrics = stepper(policy, packing)(play.round(0, {}))
        found.append((metrics, tiny.gradients(policy)))
    (one, together), (four, apart) = found
    assert one["kl"] != 0
    assert one == pytest.approx(four, rel=1e-9, abs=1e-9)
    assert together.keys() == apart.keys()
    assert max(g.abs().max() for g in together.values()) > 1e-4
    for name, gradient in together.items():
        torch.testing.assert_close(apart[name], gradient, rtol=1e-8, atol=1e-11)


def test_the_kl_in_the_reward_is_paid_per_completion() -> None:
    policy = tiny.lora_policy(moved=True)
    play = algorithm(policy, Reinforce(baseline="none"), kl=RewardKL(coefficient=0.1))
    round = play.round(0, {})
    kl = []
    for group in round.parts[0].groups:
        mine, (theirs,) = policy.logps([group])[0], live_reference(policy).logps([group], Packing(tokens=60))
        for branch, a, b in zip(group.branches, mine, theirs, strict=True):
            kl.append((a - b).sum().item())
            assert branch.columns["advantage"] == pytest.approx(share("", text(branch.tokens), None) - 0.1 * kl[-1])
    assert round.figures["kl"] == pytest.approx(sum(kl) / len(kl))


def test_the_controller_leads_the_coefficient_after_a_rollout() -> None:
    kl, state = RewardKL(coefficient=0.2, target=2.0, horizon=100), {}
    play = algorithm(tiny.policy(), RLOO(clip=0.2), epochs=2, kl=kl)
    assert play.round(0, state).figures["kl_coefficient"] == 0.2
    play.observe({"age": 0.0, "kl": 3.0, "drafts": 16.0}, state)
    assert state["kl_coefficient"] == pytest.approx(0.2 * (1 + 0.2 * 0.16))
    play.observe({"age": 1.0}, state)
    play.observe({"age": 0.0, "kl": 1.9, "drafts": 16.0}, state)
    assert state["kl_coefficient"] == pytest.approx(0.2 * 1.032 * (1 - 0.05 * 0.16))
    assert play.round(2, state).figures["kl_coefficient"] == state["kl_coefficient"]


@pytest.mark.parametrize(
    ("settings", "objective", "message"),
    [
        ({"epochs": 2}, RLOO(), "serves one step only"),
        ({"rollouts": 8}, Reinforce(), "serves one step only"),
        ({"rollouts": 6}, PPO(), "multiple of training.batch_size"),
        ({"samples": 1}, GRPO(), "samples must be ≥ 2"),
        ({"reward": ()}, GRPO(), "at least one source"),
        ({"kl": RewardKL(coefficient=0.1), "stop_penalty": -1.0}, GRPO(), "stop_penalty"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], objective: Objective, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        algorithm(tiny.policy(), objective, **settings)


LEARNERS: list[tuple[Objective, dict[str, Any]]] = [
    (GRPO(), {}),
    (PPO(), {"epochs": 2}),
    pytest.param(RLOO(), {"kl": RewardKL(coefficient=0.01)}, marks=pytest.mark.slow),
    pytest.param(Reinforce(), {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("objective", "settings"), LEARNERS, ids=lambda x: getattr(x, "kind", ""))
def test_it_learns_to_say_what_is_rewarded(objective: Objective, settings: dict[str, Any]) -> None:
    """From about one token in 61 to more than half, in 25 steps of 12 prompts."""
    policy = tiny.policy(dtype=torch.float32)
    play, step, state = algorithm(policy, objective, batch_size=12, **{"samples": 8, **settings}), stepper(policy), {}
    play = replace(play, steps=25)
    found = [step(play.round(s, state)) for s in range(25)]
    rewards = [m["reward"] for m in found if "reward" in m]
    assert rewards[0] < 0.1
    assert sum(rewards[-3:]) / 3 > 0.5
