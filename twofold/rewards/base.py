"""What scores completions: a trained reward model, and whatever else has this form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from twofold.progress import Progress
from twofold.records import Record

if TYPE_CHECKING:
    from twofold.batch import Group


class Scorer(Protocol):
    """Scores for the completions of records, in the order in which `records.said` tells them; higher is better."""

    def score(self, records: Sequence[Record], progress: Progress) -> list[list[float]]: ...


class Reward(Protocol):
    """Rates what a policy said: a number for each branch of each group; higher is better.

    One that runs what was said has `executes` = True, and so has a function that does; `executes` below asks for it.
    """

    def rate(self, groups: Sequence[Group]) -> list[list[float]]: ...


def executes(reward: object) -> bool:
    """Whether a reward says that it runs what a model has written."""
    return bool(getattr(reward, "executes", False))
