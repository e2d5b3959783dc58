"""What lets a draft through: ratings held against a bar, and a language model that rates drafts by its rubric.

Who rates may be any source of `rollouts.py`, or a language model behind a server, which either compares a draft with
the ground truth in both orders (a tie is half a win) or scores it from 1 to 10 with the ground truth before its eyes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.judges.language_model import Judge, Match
from twofold.ledger import Ledger
from twofold.rewards.base import Reward
from twofold.settings import require, settings

COMPARES, SCORES = "llm:", "llm-score:"
TIE = 0.5


@settings
class GateSettings:
    """Who judges drafts, and from where on they pass."""

    source: str
    """A reward model's folder, verifier, verifier:flexible, llm:URL#MODEL (a draft beside the ground truth) or
    llm-score:URL#MODEL (1 to 10)."""
    at_least: float | None = None
    """The rating from which on a draft passes; by default the ground truth's own, and of llm: a tie with it."""
    rubric: str | None = None
    """A jinja template for a language model, instead of the package's own."""

    def __post_init__(self) -> None:
        require(self.source != "", "source must name a judge")
        told = not self.source.startswith(SCORES) or self.at_least is not None
        require(told, "llm-score needs at_least: the score from 1 to 10 from which on a draft passes")
        spoken = self.source.startswith((COMPARES, SCORES))
        require(self.rubric is None or spoken, "rubric is for llm: and llm-score:")


@dataclass(frozen=True)
class ThresholdGate:
    """1 for a draft that `reward` rates no lower than `bar`, or than its ground truth where there is no bar, else 0;
    NaN for one that has no rating, or no truth's to compare it with."""

    reward: Reward
    bar: float | None = None

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        if self.bar is not None:
            return [[_verdict(found, self.bar) for found in row] for row in self.reward.rate(groups)]
        rated = self.reward.rate([_with_truth(group) for group in groups])
        return [[_verdict(found, row[-1]) for found in row[:-1]] for row in rated]


@dataclass(frozen=True)
class PairwiseJudge:
    """A draft's share of its match with the ground truth before a language model: 1, ½ or 0; NaN without a verdict."""

    judge: Judge
    ledger: Ledger
    text: Callable[[Tensor], str]
    """Tokens [n] to text without special tokens."""

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        matches: list[Match] = []
        for group in groups:
            assert group.truth is not None, "checked before step 0"
            prompt, truth = self.text(group.prompt), self.text(group.truth)
            matches += [Match(prompt, self.text(b.tokens), truth) for b in group.branches]
        return _rows(groups, dict(self.judge.compare(matches, self.ledger)))


@dataclass(frozen=True)
class ScoringJudge:
    """A language model's score of a draft, from 1 to 10, the ground truth before its eyes; NaN without one."""

    judge: Judge
    ledger: Ledger
    text: Callable[[Tensor], str]

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        asked = [
            (self.text(g.prompt), self.text(b.tokens), None if g.truth is None else self.text(g.truth))
            for g in groups
            for b in g.branches
        ]
        return _rows(groups, dict(self.judge.score(asked, self.ledger)))


def _rows(groups: Sequence[Group], heard: dict[int, float | None]) -> list[list[float]]:
    """What was heard of each branch, counted through all groups."""
    told = iter(heard.get(i) for i in range(sum(len(g.branches) for g in groups)))
    return [[math.nan if (said := next(told)) is None else said for _ in g.branches] for g in groups]


def _with_truth(group: Group) -> Group:
    assert group.truth is not None, "checked before step 0"
    return replace(group, branches=(*group.branches, Branch(group.truth, Role.TRUTH)))


def _verdict(found: float, bar: float) -> float:
    return math.nan if math.isnan(found) or math.isnan(bar) else float(found >= bar)
