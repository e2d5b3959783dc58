"""Contests: a model's answer against another one to the same prompt, and the referees that decide them.

A judge that compares is asked in both orders; one that scores, scores both; people are read from the verdicts that
`twofold data label` kept. Equal texts are a tie, and nobody is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twofold.errors import DataError, RecipeError
from twofold.judges.language_model import Match, Orders, agreed
from twofold.judges.people import HumanVerdicts, content_key, verdicts_path
from twofold.judges.questions import Question
from twofold.judges.registry import WITH_RUBRIC, JudgeResources, judge_kind, open_judge
from twofold.judges.scoring import ByComparingModel, Judge
from twofold.progress import Progress
from twofold.records import Candidate, Prompt, Source, shown

PEOPLE = "human:"
TASK = "judged"


@dataclass(frozen=True, slots=True)
class Matchup:
    """A model's `own` answer against an `other`; `truth` is a correct one, where the row knows it."""

    prompt: Prompt
    own: str
    other: str
    source: Source
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class MatchResult:
    """The model's share: 1, ½ or 0. `orders` is what a judge said with its answer as A and then as B."""

    share: float
    orders: tuple[str, str] | None = None


class Referee(Protocol):
    """`told` is its provenance; `outcomes` has None for a contest that stayed without a verdict."""

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def outcomes(self, contests: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]: ...


class ByScores:
    """Who has the higher score wins; equal scores are a tie."""

    def __init__(self, judge: Judge) -> None:
        self.provenance, self._judge = judge.provenance, judge

    def outcomes(self, contests: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]:
        return _unequal(contests, lambda open_ones: self._scored(open_ones, progress))

    def _scored(self, contests: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]:
        scores = self._judge.scores([_question(c) for c in contests], progress)
        return [None if s is None else MatchResult(0.5 + 0.5 * ((s[0] > s[1]) - (s[0] < s[1]))) for s in scores]


class InBothOrders:
    """A language model that compares; what its two orders do not agree on is a tie."""

    def __init__(self, judge: ByComparingModel) -> None:
        self.provenance, self._judge = judge.provenance, judge

    def outcomes(self, contests: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]:
        return _unequal(contests, lambda open_ones: self._compare(open_ones, progress))

    def _compare(self, contests: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]:
        found: list[MatchResult | None] = [None] * len(contests)
        progress.begin(TASK, len(contests))
        matches = [Match(c.prompt, c.own, c.other, c.truth) for c in contests]
        for place, orders in self._judge.verdicts(matches):
            found[place] = _outcome(orders)
            progress.advance(TASK)
        progress.end(TASK)
        return found


class ByPeople:
    """The verdicts beside a labelled file, on the contests that it has, whichever answer stood first there."""

    def __init__(self, verdicts: HumanVerdicts, path: Path) -> None:
        self.provenance = {"kind": "human", "file": str(path)}
        self._verdicts = verdicts

    def outcomes(self, contests: Sequence[Matchup], progress: Progress) -> list[MatchResult | None]:
        return _unequal(contests, lambda open_ones: [self._result(c) for c in open_ones])

    def _result(self, contest: Matchup) -> MatchResult | None:
        for first, second, wins in ((contest.own, contest.other, "first"), (contest.other, contest.own, "second")):
            choice = self._verdicts.get(content_key(contest.prompt, first, second))
            if choice not in (None, "skip"):
                return MatchResult(0.5 if choice == "tie" else float(choice == wins))
        return None


def open_referee(name: str, means: JudgeResources, resources: ExitStack) -> Referee:
    """The referee of a judge's name, or the people of `human:FILE`, FILE being what `data label --out` was told.

    Raises RecipeError for a name that is no judge of answers.
    """
    if name.startswith(PEOPLE) and name != PEOPLE:
        return open_people(Path(name.removeprefix(PEOPLE)), resources)
    try:
        kind, _ = judge_kind(name)
        if means.rubric is not None and kind not in WITH_RUBRIC:
            raise ValueError("a rubric goes with llm and llm-score")
        judge = open_judge(name, means, resources)
    except ValueError as error:
        remedy = "as reward:FOLDER, llm:URL#NAME, llm-score:URL#NAME, verifier or human:FILE"
        raise RecipeError(str(error), where=f"judge {name}", remedy=remedy) from None
    return InBothOrders(judge) if isinstance(judge, ByComparingModel) else ByScores(judge)


def open_people(out: Path, resources: ExitStack) -> ByPeople:
    """The verdicts of the file that was labelled as `out`; raises DataError where there are none."""
    path = verdicts_path(out)
    if not path.is_file():
        remedy = f"label the comparisons first: twofold data label OUT/comparisons.jsonl --out {out}"
        raise DataError("no verdicts", where=str(path), remedy=remedy)
    return ByPeople(resources.enter_context(HumanVerdicts(path)), out)


def unjudged(contests: Sequence[Matchup]) -> list[dict[str, Any]]:
    """The contests as rows for `twofold data label`, each once, without those whose texts are equal."""
    rows = {
        content_key(c.prompt, c.own, c.other): {"prompt": shown(c.prompt), "answers": [c.own, c.other]}
        for c in contests
        if c.own != c.other and c.own.strip() and c.other.strip()
    }
    return list(rows.values())


def _unequal(
    contests: Sequence[Matchup], judge: Callable[[Sequence[Matchup]], Sequence[MatchResult | None]]
) -> list[MatchResult | None]:
    found: list[MatchResult | None] = [MatchResult(0.5)] * len(contests)
    open_places = [i for i, c in enumerate(contests) if c.own != c.other]
    if open_places:
        for place, outcome in zip(open_places, judge([contests[i] for i in open_places]), strict=True):
            found[place] = outcome
    return found


def _question(contest: Matchup) -> Question:
    return Question(
        contest.prompt, contest.source, contest.truth, (Candidate(contest.own, {}), Candidate(contest.other, {}))
    )


def _outcome(orders: Orders) -> MatchResult | None:
    forward, backward = orders
    share = agreed(forward, backward)
    if forward is None or backward is None or share is None:
        return None
    return MatchResult(share, (forward, backward))
