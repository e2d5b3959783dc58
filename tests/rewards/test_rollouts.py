"""Several rewards of the same drafts as one: weighted sums, their means, and numbers that no update could use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from twofold.batch import Branch, Group, Role
from twofold.errors import NonFiniteError
from twofold.rewards.rollouts import DraftScores, Rewards

DRAFTS = (Branch(torch.tensor([1]), Role.DRAFT),) * 2
GROUPS = [Group("f:1", torch.tensor([1]), DRAFTS), Group("f:2", torch.tensor([1]), DRAFTS)]


@dataclass(frozen=True)
class Fixed:
    """The same numbers whatever was drawn."""

    numbers: list[list[float]]

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        assert list(groups) == GROUPS
        return self.numbers


def test_rewards_are_summed_by_their_weights() -> None:
    rewards = Rewards([("a", 2.0, Fixed([[1.0, 2.0], [3.0, 4.0]])), ("b", -0.5, Fixed([[4.0, 0.0], [0.0, 8.0]]))])
    rated = rewards.rate(GROUPS)
    assert rated == {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[4.0, 0.0], [0.0, 8.0]]}
    assert rewards.total(rated) == [[0.0, 4.0], [6.0, 4.0]]
    assert rewards.verdicts(GROUPS) == DraftScores([[0.0, 4.0], [6.0, 4.0]], {"reward/a": 2.5, "reward/b": 3.0})
    assert not rewards.shares


def test_one_reward_is_its_own_mean() -> None:
    assert Rewards([("a", 3.0, Fixed([[1.0, 2.0], [3.0, 4.0]]))]).verdicts(GROUPS) == DraftScores(
        [[3.0, 6.0], [9.0, 12.0]], {}
    )
    assert DraftScores([None]).figures == {}


@pytest.mark.parametrize(
    ("number", "weight", "message", "remedy"),
    [
        (math.nan, 1.0, "the reward b is not finite: [2.0, nan]",
         "return a finite number for every completion, or judge by something else"),
        (-math.inf, 1.0, "the reward b is not finite: [2.0, -inf]",
         "return a finite number for every completion, or judge by something else"),
        (1.1e18, 1.0, "the reward b is larger than 1e+18 (times its weight): [2.0, 1.1e+18]",
         "scale it down: only differences matter"),
        (-1e10, 1.1e8, "the reward b is larger than 1e+18 (times its weight): [2.0, -10000000000.0]",
         "scale it down: only differences matter"),
        (1e18, 1.0, "", ""),
        (1e19, 0.1, "", ""),
    ],
)  # fmt: skip
def test_a_number_that_no_update_could_use_is_named(number: float, weight: float, message: str, remedy: str) -> None:
    rewards = Rewards([("a", 1.0, Fixed([[1.0, 1.0]] * 2)), ("b", weight, Fixed([[1.0, 1.0], [2.0, number]]))])
    if not message:
        assert rewards.rate(GROUPS)["b"][1][1] == number
        return
    with pytest.raises(NonFiniteError) as error:
        rewards.rate(GROUPS)
    assert (error.value.what, error.value.where, error.value.remedy) == (message, "f:2", remedy)


@pytest.mark.parametrize(
    "numbers", [[[1.0, 2.0]], [[1.0, 2.0]] * 3, [[1.0, 2.0], [1.0]], [[1.0, 2.0], [1.0, 2.0, 3.0]]]
)
def test_a_reward_that_speaks_of_other_drafts_is_none(numbers: list[list[float]]) -> None:
    rewards = Rewards([("a", 1.0, Fixed([[1.0, 2.0]] * 2)), ("b", 1.0, Fixed(numbers))])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        rewards.verdicts(GROUPS)
