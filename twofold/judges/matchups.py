"""Matches of a model's completion against another completion of the same prompt, and the referees that decide them.

A comparing judge is queried in both orders. A scoring judge scores both. People's verdicts come from the file of
`twofold data label`. Equal texts are a tie without a query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

from twofold.data.reasoning import without_reasoning
from twofold.data.row_fields import row_fields
from twofold.errors import DataError, RecipeError
from twofold.judges.base import Judge, JudgeKind, JudgeResources
from twofold.judges.base import MatchResult as MatchResult
from twofold.judges.language_model import Match, refuse_pictures
from twofold.judges.people import HumanVerdicts, content_key, verdicts_path
from twofold.judges.questions import Question
from twofold.judges.registry import parse_judge
from twofold.judges.servers import PairwiseJudge, ScoringJudge
from twofold.progress import Progress
from twofold.records import Candidate, Completion, Prompt, Source, transcript_of


@dataclass(frozen=True, slots=True)
class Matchup:
    """A model's `own` completion against an `other` one. `truth` is the reference answer, if the row has one."""

    prompt: Prompt
    own: Completion
    other: Completion
    source: Source
    truth: str | None = None

    def without_reasoning(self) -> Matchup:
        """The same match between the answers only."""
        return replace(self, own=without_reasoning(self.own), other=without_reasoning(self.other))

    @property
    def is_even(self) -> bool:
        """Whether both read the same."""
        return transcript_of(self.own) == transcript_of(self.other)

    @property
    def has_empty(self) -> bool:
        return Candidate(self.own, {}).is_empty or Candidate(self.other, {}).is_empty


Results: TypeAlias = Sequence[MatchResult | None]
"""None for a match without a verdict."""


@dataclass(frozen=True)
class Referee:
    """Decides matches, each once. Equal texts are a tie without a query. A judge `with_reasoning` reads the reasoning
    of answers, too; the others get the answers only."""

    provenance: Mapping[str, Any]
    decide: Callable[[Sequence[Matchup], Progress], Results]
    spend: Callable[[], list[dict[str, Any]]] = list
    """What the judge has cost: one entry for each server."""
    with_reasoning: bool = False

    def outcomes(self, matchups: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]:
        contests = matchups if self.with_reasoning else [each.without_reasoning() for each in matchups]
        different = {_key(c): c for c in reversed(contests) if not c.is_even}
        unequal = list(different.values())[::-1]
        decided = dict(zip(map(_key, unequal), self.decide(unequal, progress) if unequal else (), strict=True))
        return [MatchResult(0.5) if c.is_even else decided[_key(c)] for c in contests]


def open_referee(name: str, resources: JudgeResources, stack: ExitStack) -> Referee:
    """The referee of a judge's name, or of people's verdicts: `human:FILE`, where FILE is the --out of `data label`.

    Raises RecipeError for a name that is no judge of completions.
    """
    kind = parse_judge(name, resources.place)
    if kind.gives == "verdicts":
        if not kind.argument:
            what, remedy = "people decide about a labeled file", "write human:FILE"
            raise RecipeError(what, where=resources.place.where, remedy=remedy)
        return open_people(Path(kind.argument), stack)
    if resources.rubric is not None and not kind.asks_server:
        raise RecipeError("a rubric goes with llm and llm-score", where=f"judge {name}", remedy="leave --rubric out")
    judge = kind.open(resources, stack)
    return referee_of(kind, judge)


def referee_of(kind: JudgeKind, judge: Judge) -> Referee:
    """The referee of an open judge."""
    decide = (
        partial(_in_both_orders, cast("PairwiseJudge", judge))
        if kind.gives == "shares"
        else partial(_by_scores, judge, kind)
    )
    provenance = {**judge.provenance, **({"with_reasoning": True} if kind.with_reasoning else {})}
    if not kind.asks_server:
        return Referee(provenance, decide, with_reasoning=kind.with_reasoning)
    model = cast("PairwiseJudge | ScoringJudge", judge).model
    return Referee(provenance, decide, lambda: [model.spend], kind.with_reasoning)


def open_people(out: Path, stack: ExitStack) -> Referee:
    """People's verdicts from the labeled file `out`, for the matches in it in either order. Raises DataError if there
    are none."""
    path = verdicts_path(out)
    if not path.is_file():
        remedy = f"label the comparisons first: twofold data label OUT/comparisons.jsonl --out {out}"
        raise DataError("no verdicts", where=str(path), remedy=remedy)
    verdicts = stack.enter_context(HumanVerdicts(path))

    def result(contest: Matchup) -> MatchResult | None:
        for first, second, wins in ((contest.own, contest.other, "first"), (contest.other, contest.own, "second")):
            choice = verdicts.get(content_key(contest.prompt, first, second))
            if choice not in (None, "skip"):
                return MatchResult(0.5 if choice == "tie" else float(choice == wins))
        return None

    return Referee({"kind": "human", "file": str(out)}, lambda contests, _: [result(c) for c in contests])


def unjudged(contests: Sequence[Matchup]) -> list[dict[str, Any]]:
    """The matches as rows for `twofold data label`, each once, without matches of equal texts."""
    rows = {
        content_key(c.prompt, c.own, c.other): row_fields(c.prompt, answers=[c.own, c.other])
        for c in (each.without_reasoning() for each in contests)
        if not c.is_even and not c.has_empty
    }
    return list(rows.values())


def _by_scores(judge: Judge, kind: JudgeKind, contests: Sequence[Matchup], progress: Progress) -> Results:
    """The higher score wins; equal scores are a tie. Each completion is scored once, next to the others of its prompt;
    by a server singly, so that a missing score leaves out no other."""
    answers: dict[Hashable, dict[Completion, Matchup]] = {}
    for c in contests:
        for told in (c.own, c.other):
            group = (c.source, c.prompt, c.truth, told if kind.asks_server else None)
            answers.setdefault(group, {}).setdefault(told, c)
    questions = [
        Question(c.prompt, c.source, c.truth, tuple(Candidate(told, {}) for told in several))
        for several in answers.values()
        for c in (next(iter(several.values())),)
    ]
    scores: dict[Hashable, float | None] = {}
    for question, each in zip(questions, judge.scores(questions, progress), strict=True):
        numbers = [None] * len(question.candidates) if each is None else each
        for candidate, score in zip(question.candidates, numbers, strict=True):
            scores[question.source, question.prompt, question.answer, candidate.completion] = score
    both = [[scores[c.source, c.prompt, c.truth, told] for told in (c.own, c.other)] for c in contests]
    return [_higher(own, other, kind.is_log_odds) for own, other in both]


def _higher(own: float | None, other: float | None, log_odds: bool) -> MatchResult | None:
    if own is None or other is None:
        return None
    probability = 0.5 * (1 + math.tanh(0.5 * (own - other))) if log_odds else None
    return MatchResult(0.5 + 0.5 * ((own > other) - (own < other)), None, probability)


def _key(contest: Matchup) -> Hashable:
    """Equal for matches that differ only in their rows."""
    return contest.prompt, contest.own, contest.other, contest.truth


def _in_both_orders(judge: PairwiseJudge, contests: Sequence[Matchup], progress: Progress) -> Results:
    for contest in contests:
        refuse_pictures(contest.prompt, contest.source)
    matches = [Match(c.prompt, transcript_of(c.own), transcript_of(c.other), c.truth) for c in contests]
    return judge.results(matches, progress)
