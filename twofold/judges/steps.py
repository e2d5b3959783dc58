"""Process reward models as judges: the score of a completion from those of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twofold.judges.base import Judge, JudgeKind, JudgeNameError, JudgeResources, Scores
from twofold.judges.questions import Question
from twofold.progress import Progress
from twofold.records import Demonstration, Ranking, Record, Steps

if TYPE_CHECKING:  # imported where a model is opened: names are checked without torch
    from twofold.rewards.steps import StepScorer
    from twofold.sampling.beam import Guide

AGGREGATES = ("min", "product", "last", "mean")

StepScores = list[list[list[float]]]
"""The probability of each step, per question and candidate."""


@dataclass(frozen=True)
class ProcessJudge:
    """A process reward model's scores of completions, and of their steps."""

    scorer: StepScorer
    provenance: Mapping[str, Any]

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        return self.totals(self.steps(questions, progress))

    def totals(self, steps: StepScores) -> Scores:
        """The scores of completions from those of their steps."""
        return [[self.scorer.total(each) for each in several] for several in steps]

    def steps(self, questions: Sequence[Question], progress: Progress) -> StepScores:
        """The probability that each step of each candidate is right."""
        return self.scorer.steps([_row(question) for question in questions], progress)


class ProcessKind(JudgeKind):
    """the least probability of a step being right by a process reward model; or their product, last or mean"""

    name, usage = "process", "process:FOLDER[?steps=min|product|last|mean]"
    rates_steps = guides = True

    def __post_init__(self) -> None:
        folder, how = self._parts
        if not folder or how not in AGGREGATES:
            raise JudgeNameError(f"the judge is written {self.usage}")

    @property
    def _parts(self) -> tuple[str, str]:
        """The folder, and how a completion's score is made."""
        folder, mark, query = self.argument.partition("?")
        return folder, query.removeprefix("steps=") if mark else AGGREGATES[0]

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        assert resources.open_reward is not None, "a judge of texts needs a function that loads a reward model"
        folder, how = self._parts
        about = {"kind": self.name, "model": folder, "steps": how}
        return ProcessJudge(resources.open_reward(folder, steps=how), about)

    def guide(self, tokenizer: Any) -> tuple[str, Guide]:
        from twofold.rewards.guides import StepGuide

        folder, how = self._parts
        made = StepGuide.load(folder, tokenizer, how)
        return made.digest, made


def _row(question: Question) -> Record:
    """The candidates of a question as one row, in arbitrary order; a single one with the steps that its row has."""
    first, *others = question.candidates
    if others:
        return Ranking(question.prompt, tuple(c.completion for c in question.candidates), question.source)
    if first.steps:
        return Steps(question.prompt, first.steps, (None,) * len(first.steps), question.source)
    return Demonstration(question.prompt, first.completion, question.source)
