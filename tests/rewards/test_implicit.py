"""A policy's own reward: its value, the penalty that makes pairs equally long, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from support import tiny
from twofold.algorithms.preference_pairs import balanced
from twofold.batch import Group
from twofold.models.packing import Packing
from twofold.models.reference import AdapterReference, MovingReference
from twofold.rewards.implicit import Implicit, ImplicitReward, TrailingReference


def test_the_implicit_reward_is_the_policys_own() -> None:
    policy = tiny.lora_policy(moved=True)
    (group,) = tiny.groups((3, 2, 5, 4))
    reward = ImplicitReward(policy, AdapterReference(policy), Packing(tokens=60), 0.2, 0.03)
    mine = [row.sum().item() for row in tiny.alone(policy.model, group)]
    with policy.as_reference():
        theirs = [row.sum().item() for row in tiny.alone(policy.model, group)]
    want = [0.2 * (a - b) - 0.03 * n for a, b, n in zip(mine, theirs, (2, 5, 4), strict=True)]
    assert reward.rate([group])[0] == pytest.approx(want, rel=1e-9)


def test_a_balanced_penalty_makes_best_and_worst_equally_long() -> None:
    """Two prompts that favour length by 1 and by 3 a token: between the two penalties one each is the longer."""
    rewards, lengths = [[1.0, 5.0], [3.0, 15.0]], [[1, 5], [1, 5]]
    assert 1 < balanced(rewards, lengths) < 3
    assert balanced([[5.0, 1.0]], [[1, 5]]) == 0
    assert balanced([[5.0, 1.0]], [[3, 3]]) == 0
    policy = tiny.lora_policy(moved=True)
    groups = tiny.groups(*[(3, 1, 3, 5, 7)] * 40, seed=2)

    def longer(penalty: Any) -> float:
        rated = ImplicitReward(policy, AdapterReference(policy), Packing(), 0.2, penalty).rate(groups)
        found = [_long(g, row, max) - _long(g, row, min) for g, row in zip(groups, rated, strict=True)]
        return sum(found) / len(found)

    wordy = -0.3  # as if each token were worth something
    assert longer(wordy) > 1
    paid = partial(_balanced_against, wordy)
    assert abs(longer(paid)) < 0.3


def _balanced_against(bonus: float, rewards: list[list[float]], lengths: list[list[int]]) -> float:
    shaped = [[r - bonus * n for r, n in zip(*row, strict=True)] for row in zip(rewards, lengths, strict=True)]
    return bonus + balanced(shaped, lengths)


def _long(group: Group, row: list[float], which: Callable[[list[float]], float]) -> int:
    return len(group.branches[row.index(which(row))].tokens)


def test_a_judges_reference_is_a_round_behind() -> None:
    """The policy becomes its own reference, and is judged against what that was before; at first against a third."""
    policy, oldest = tiny.policy(), tiny.policy(seed=9)
    before, third = tiny.weights(policy), tiny.weights(oldest)
    leader = MovingReference(policy, 1.0, 2)
    judge = TrailingReference(oldest, leader)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(1.0)
    name = next(iter(before))
    seen = []
    for step in (1, 2, 3, 4):
        judge.on_step_end(step)
        leader.on_step_end(step)
        seen.append((judge.tensors()[name].clone(), leader.tensors()[name].clone()))
    now = tiny.weights(policy)[name]
    want = [(third, before[name]), (before, now), (before, now), (now, now)]
    for (mine, theirs), (a, b) in zip(seen, want, strict=True):
        assert torch.equal(mine, a[name] if isinstance(a, dict) else a)
        assert torch.equal(theirs, b)
    kept = {k: v.clone() for k, v in judge.tensors().items()}
    other = TrailingReference(tiny.policy(seed=9), leader)
    other.restore(kept, {})
    assert all(torch.equal(v, kept[k]) for k, v in other.tensors().items())


class Says:
    """Log-probabilities as they are given, whatever the groups."""

    def __init__(self, *rows: list[list[float]]) -> None:
        self.rows = [[torch.tensor(tokens) for tokens in row] for row in rows]
        self.seen: list[Any] = []

    def logps(self, groups: Any, packing: Packing) -> list[list[torch.Tensor]]:
        self.seen.append((groups, packing))
        return self.rows


def test_a_reward_is_the_sum_of_log_ratios_minus_a_price_per_token() -> None:
    groups, packing = tiny.groups((3, 2, 1), (1, 3, 3)), Packing(tokens=60)
    mine = Says([[-1.0, -2.0], [-3.0]], [[0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    theirs = Says([[-2.0, -2.5], [-1.0]], [[-1.0, 0.0, 1.0], [-3.0, -2.0, -1.0]])
    seen: list[Any] = []

    def price(rewards: Any, lengths: Any) -> float:
        seen.append((rewards, lengths))
        return 0.25

    for penalty in (0.25, price):
        found = ImplicitReward(mine, theirs, packing, 0.5, penalty).rate(groups)  # type: ignore[arg-type]  # as policies
        assert found == [[0.75 - 0.5, -1.0 - 0.25], [0.0 - 0.75, 1.5 - 0.75]]
    assert seen == [([[0.75, -1.0], [0.0, 1.5]], [[2, 1], [3, 3]])]
    assert mine.seen == theirs.seen == [(groups, packing)] * 2


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [([[[-1.0]]], [[[-1.0], [-1.0]]]), ([[[-1.0], [-1.0]], [[-1.0], [-1.0]]], [[[-1.0], [-1.0]]]),
     ([[[-1.0]]], [[[-1.0]]]), ([[[-1.0], [-1.0]]] * 2, [[[-1.0], [-1.0]]] * 2)],
)  # fmt: skip
def test_policies_that_do_not_speak_of_the_same_drafts_are_no_reward(mine: Any, theirs: Any) -> None:
    reward = ImplicitReward(Says(*mine), Says(*theirs), Packing(), 0.1, 0.0)  # type: ignore[arg-type]  # as above
    with pytest.raises(ValueError, match=r"shorter|longer"):
        reward.rate(tiny.groups((3, 1, 1)))


def test_settings_of_the_implicit_reward() -> None:
    assert Implicit() == Implicit(reference=None, beta=0.1, length_penalty=0.0)
    assert Implicit(beta=0.001, length_penalty=0.0).beta == 0.001
    assert Implicit(length_penalty="balanced").length_penalty == "balanced"
    for beta in (0.0, -0.1):
        with pytest.raises(ValueError, match="beta must be > 0"):
            Implicit(beta=beta)
    with pytest.raises(ValueError, match="length_penalty must be ≥ 0"):
        Implicit(length_penalty=-0.01)


def test_a_trailing_reference_speaks_as_its_policy_and_is_kept_as_its_tensors() -> None:
    oldest, policy = tiny.policy(seed=9), tiny.policy()
    want = oldest.logps(tiny.groups((3, 2)), Packing())[0][0]
    judge = TrailingReference(oldest, MovingReference(policy, 1.0, 3))
    assert torch.equal(judge.logps(tiny.groups((3, 2)), Packing())[0][0], want)
    assert not any(p.requires_grad for p in judge.policy.model.parameters())
    assert (judge.name, judge.state_dict()) == ("judge-reference", {})
    assert set(judge.tensors()) == set(judge.leader.tensors())
    before = {k: v.clone() for k, v in judge.tensors().items()}
    for step in (1, 2, 4, 5):
        judge.on_step_end(step)
    assert all(torch.equal(v, before[k]) for k, v in judge.tensors().items())
    judge.on_step_end(6)
    assert all(torch.equal(v, judge.leader.tensors()[k]) for k, v in judge.tensors().items())
