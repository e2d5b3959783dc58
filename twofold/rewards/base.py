"""The interfaces of rewards: functions of texts, trained reward models, and raters of a policy's samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from twofold.errors import RecipeError, TwofoldError
from twofold.progress import Progress
from twofold.records import Record

if TYPE_CHECKING:
    from twofold.batch import Group

RewardFunction: TypeAlias = Callable[[str, str, str | None], float]
"""(prompt, completion, reference answer or None) → reward, one number, or NaN for none. Texts have no special tokens. A
reward that runs programs of a model has `executes` = True."""


class Scorer(Protocol):
    """Scores for the completions of records, in the order of `records.completion_fields`; higher is better."""

    def score(self, records: Sequence[Record], progress: Progress) -> list[list[float]]: ...


class Reward(Protocol):
    """Rates a policy's samples: a number for each branch of each group; higher is better, NaN is none."""

    def rate(self, groups: Sequence[Group]) -> list[list[float]]: ...


def executes(function: RewardFunction) -> bool:
    """Whether a function declares that it runs programs of a model."""
    return bool(getattr(function, "executes", False))


def rated(function: RewardFunction, texts: tuple[str, str, str | None], where: str) -> float:
    """A function's reward of (prompt, completion, reference answer). If it fails or returns no number, raises
    RecipeError with the function and the row at `where`."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        value: Any = function(*texts)
    except TwofoldError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        what = f"the function {name} failed on a completion: {_excerpt(f'{type(error).__name__}: {error}')}"
        remedy = "it is called as (prompt, completion, ground truth) and returns a number"
        raise RecipeError(what, where=where, remedy=remedy) from error
    number = None if isinstance(value, str | bytes) else _number(value)
    if number is None:
        what = f"the function {name} returned {_described(value)} for a completion, which is no number"
        remedy = "return one number for one completion; in a gate NaN is no rating"
        raise RecipeError(what, where=where, remedy=remedy)
    return number


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except Exception:  # whatever a value of a user's own class raises
        return None


def _described(value: Any) -> str:
    try:
        return _excerpt(repr(value))
    except Exception:
        return type(value).__name__


def _excerpt(text: str, width: int = 120) -> str:
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 1] + "…"
