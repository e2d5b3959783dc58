"""Gates for drafts: compare a judge's rating with a bar, or with the ground truth's own rating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from twofold.batch import Branch, Group, Role
from twofold.judges.base import DraftResources
from twofold.judges.drafts import open_draft_judge
from twofold.judges.registry import GATE, parse_judge
from twofold.rewards.base import Reward
from twofold.settings import require, settings

TIE = 0.5


@settings
class GateSettings:
    """The judge of drafts, and the rating that a draft needs to pass."""

    source: str
    """A judge, KIND[:ARGUMENT] (docs/judges.md). It rates the draft, or (llm) compares it with the ground truth."""
    at_least: float | None = None
    """Minimum rating of a draft that passes. The default is the ground truth's own rating; for llm, a tie with it."""
    rubric: str | None = None
    """A Jinja template for a language model, instead of the package's own."""

    def __post_init__(self) -> None:
        require(self.source != "", "source must name a judge")
        kind = parse_judge(self.source, GATE)
        barred = kind.gives == "shares" or not kind.asks_server or self.at_least is not None
        require(barred, f"{kind.name} needs at_least: the score from 1 to 10 from which on a draft passes")
        require(self.rubric is None or kind.asks_server, "rubric is for llm: and llm-score:")


@dataclass(frozen=True)
class ThresholdGate:
    """1 for a draft that `reward` rates at least `bar` (without a bar: at least as high as its ground truth), else 0;
    NaN without a rating of the draft or of its ground truth."""

    reward: Reward
    bar: float | None = None

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        if self.bar is not None:
            return [[_verdict(rating, self.bar) for rating in row] for row in self.reward.rate(groups)]
        rated = self.reward.rate([_with_truth(group) for group in groups])
        return [[_verdict(rating, row[-1]) for rating in row[:-1]] for row in rated]


def open_gate(
    settings: GateSettings, drafts: DraftResources, stack: ExitStack, tasks: Sequence[Group]
) -> ThresholdGate:
    """The gate of drafts for `tasks`. Raises as `open_draft_judge`."""
    even = TIE if parse_judge(settings.source, GATE).gives == "shares" else None
    reward = open_draft_judge(settings.source, drafts, stack, tasks)
    return ThresholdGate(reward, even if settings.at_least is None else settings.at_least)


def _with_truth(group: Group) -> Group:
    assert group.truth is not None, "checked before step 0"
    return replace(group, branches=(*group.branches, Branch(group.truth, Role.TRUTH)))


def _verdict(rating: float, bar: float) -> float:
    return math.nan if math.isnan(rating) or math.isnan(bar) else float(rating >= bar)
