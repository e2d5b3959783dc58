"""What a function returns as a reward, and how its failures are named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.rewards.base import RewardFunction, executes, rated

TEXTS = ("2 + 2?", "4", "5")


def returning(value: Any) -> RewardFunction:
    def judge(prompt: str, completion: str, truth: str | None) -> Any:
        assert (prompt, completion, truth) == TEXTS
        return value

    return judge


class Tensor:
    """A number of another library."""

    def __float__(self) -> float:
        return 0.5


class Odd:
    """Neither a number nor something to show."""

    def __float__(self) -> float:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (0.25, 0.25), (True, 1.0), (Tensor(), 0.5), (-2.0, -2.0)])
def test_a_reward_is_one_number(value: Any, number: float) -> None:
    found = rated(returning(value), TEXTS, "f:3")
    assert (found, type(found)) == (number, float)
    assert math.isnan(rated(returning(math.nan), TEXTS, "f:3"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("4", "'4'"), (b"4", "b'4'"), (None, "None"), ([0.5, 1], "[0.5, 1]"), (Odd(), "Odd"),
        ("a" * 118, f"'{'a' * 118}'"), ("a" * 119, f"'{'a' * 118}…"), (["a\n b"], "['a\\n b']"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_shown(value: Any, shown: str) -> None:
    with pytest.raises(RecipeError) as error:
        rated(returning(value), TEXTS, "f:3")
    name = "returning.<locals>.judge"
    assert error.value.what == f"the function {name} returned {shown} for a completion, which is no number"
    assert error.value.where == "f:3"
    assert error.value.remedy == "return one number for one completion; in a gate NaN is no rating"


@pytest.mark.parametrize("error", [ValueError("no\n  way"), SystemExit("no way"), KeyError("no way")])
def test_a_function_that_fails_is_named_with_its_row(error: BaseException) -> None:
    class Judge:
        def __call__(self, *texts: Any) -> float:
            raise error

    with pytest.raises(RecipeError) as refused:
        rated(Judge(), TEXTS, "f:3")
    told = "'no way'" if isinstance(error, KeyError) else "no way"
    name = f"{test_a_function_that_fails_is_named_with_its_row.__name__}.<locals>.Judge"
    assert refused.value.what == f"the function {name} failed on a completion: {type(error).__name__}: {told}"
    assert (refused.value.where, refused.value.remedy) == (
        "f:3", "it is called as (prompt, completion, ground truth) and returns a number",
    )  # fmt: skip
    assert refused.value.__cause__ is error


def test_an_error_of_the_users_own_data_passes() -> None:
    mine = DataError("is odd", where="g:1", remedy="")

    def judge(*texts: Any) -> float:
        raise mine

    with pytest.raises(DataError) as error:
        rated(judge, TEXTS, "f:3")
    assert error.value is mine
    with pytest.raises(KeyboardInterrupt):
        rated(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt), TEXTS, "f:3")


def test_long_errors_are_shortened() -> None:
    def judge(*texts: Any) -> float:
        raise ValueError("x y" * 400)

    with pytest.raises(RecipeError) as error:
        rated(judge, TEXTS, "f:3")
    shown = error.value.what.split("completion: ")[1]
    assert (len(shown), shown[-1], shown[:15]) == (120, "…", "ValueError: x y")


def test_a_function_says_whether_it_runs_programs() -> None:
    judge = returning(1)
    assert executes(judge) is False
    judge.executes = 1  # type: ignore[attr-defined]  # as a user's function has it
    assert executes(judge) is True
