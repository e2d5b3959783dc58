"""What a user's own reward function returns is a number, or one message with the function, the row and the value."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from twofold.batch import Branch, Group, Role
from twofold.errors import NonFiniteError, RecipeError, TwofoldError
from twofold.judges.completions import CompletionJudge
from twofold.judges.drafts import JudgedDrafts
from twofold.rewards.rollouts import Rewards


def rate(function: Callable[..., Any], weight: float = 1.0) -> list[list[float]]:
    """Two drafts of one row, `rows.jsonl:3`, before a function."""
    drafts = tuple(Branch(torch.tensor([ord(c)]), Role.DRAFT) for c in "ab")
    judged = JudgedDrafts(CompletionJudge(function), lambda tokens: "".join(chr(int(t)) for t in tokens))
    rewards = Rewards([("python:f", weight, judged)])
    return rewards.total(rewards.rate([Group("rows.jsonl:3", torch.tensor([ord("?")]), drafts, None)]))


@pytest.mark.parametrize("value", [1, 1.0, True, np.float32(1), np.array(1.0), torch.tensor(1.0), torch.ones(1)])
def test_any_one_number_is_a_reward(value: Any) -> None:
    assert rate(lambda prompt, completion, truth: value) == [[1.0, 1.0]]


class Odd:
    def __repr__(self) -> str:
        raise ValueError

    def __float__(self) -> float:
        raise KeyError("x")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"), ("0.5", "'0.5'"), (b"1", "b'1'"), ([0.5], r"\[0.5\]"), ([1.0, 2.0], r"\[1.0, 2.0\]"),
        ({}, "{}"), (torch.ones(2), "tensor"), (10**400, "1000"), (1j, "1j"), (Odd(), "Odd"), ("x" * 10_000, "'xxx"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_named_with_its_function_and_row(value: Any, shown: str) -> None:
    def reward(prompt: str, completion: str, truth: str | None) -> Any:
        return value

    with pytest.raises(RecipeError, match=rf"^rows\.jsonl:3: the function \S*reward returned {shown}") as error:
        rate(reward)
    assert error.value.remedy
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e19])
def test_a_number_that_no_mean_can_hold_is_named_with_its_row(value: float) -> None:
    with pytest.raises(NonFiniteError, match=r"^rows\.jsonl:3: the reward python:f is .*(nan|inf|1e\+)") as error:
        rate(lambda prompt, completion, truth: value)
    assert error.value.remedy
    with pytest.raises(NonFiniteError):
        rate(lambda prompt, completion, truth: 1e10, weight=1e10)
    assert rate(lambda prompt, completion, truth: 1e10, weight=1e-10) == [[1.0, 1.0]]


def test_what_a_function_raises_is_one_message() -> None:
    def broken(prompt: str, completion: str, truth: str | None) -> float:
        return {"a": 1.0}[completion]

    with pytest.raises(
        RecipeError, match=r"^rows\.jsonl:3: the function \S*broken failed on a completion: KeyError: 'b'"
    ) as error:
        rate(broken)
    assert error.value.remedy == "it is called as (prompt, completion, ground truth) and returns a number"
    with pytest.raises(RecipeError, match=r"TypeError: .*positional argument"):
        rate(lambda completion: 1.0)
    with pytest.raises(RecipeError, match="SystemExit"):
        rate(lambda *_: sys.exit(0))

    def ours(*_: object) -> float:
        raise TwofoldError("this is wrong", where="there", remedy="")

    with pytest.raises(TwofoldError, match=r"^there: this is wrong$"):
        rate(ours)
