"""What scores completions: functions of texts, trained reward models, and whatever rates a policy's own drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from twofold.progress import Progress
from twofold.records import Record

if TYPE_CHECKING:
    from twofold.batch import Group

RewardFunction: TypeAlias = Callable[[str, str, str | None], float]
"""(prompt, completion, ground truth or None) → reward; texts without special tokens. One that runs programs that a
model has written has `executes` = True."""


class Scorer(Protocol):
    """Scores for the completions of records, in the order of `records.completion_fields`; higher is better."""

    def score(self, records: Sequence[Record], progress: Progress) -> list[list[float]]: ...


class Reward(Protocol):
    """Rates a policy's drafts: a number for each branch of each group; higher is better, NaN is none."""

    def rate(self, groups: Sequence[Group]) -> list[list[float]]: ...


def executes(function: RewardFunction) -> bool:
    """Whether a function says that it runs what a model has written."""
    return bool(getattr(function, "executes", False))
