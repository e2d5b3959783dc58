"""Ensembles of judges that score, and text classifiers as judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from twofold.judges.base import TASK, Judge, JudgeKind, JudgeNameError, JudgeResources, Scores
from twofold.judges.questions import Question
from twofold.progress import Progress
from twofold.records import final_text, transcript_of
from twofold.rewards.base import Reward

if TYPE_CHECKING:  # imported where a model is opened: names are checked without torch
    from twofold.rewards.classifier import Classifier, Reads
    from twofold.rewards.ensemble import How

HOWS = ("mean", "min", "lower")
READS = ("completion", "whole", "pair")
AT_ONCE = 32


@dataclass(frozen=True)
class EnsembleJudge:
    """The scores of several judges as one; None where one of them has none."""

    judges: Sequence[Judge]
    how: How

    @property
    def provenance(self) -> Mapping[str, Any]:
        judges = [dict(judge.provenance) for judge in self.judges]
        return {"kind": EnsembleKind.name, "how": self.how, "judges": judges}

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        from twofold.rewards.ensemble import combined

        each = [judge.scores(questions, progress) for judge in self.judges]
        rows = zip(*each, strict=True)
        return [None if any(row is None for row in several) else combined(self.how, several) for several in rows]  # type: ignore[arg-type]  # no None


class EnsembleKind(JudgeKind):
    """the mean, the minimum, or the mean minus the standard deviation (`lower`) of several judges that score"""

    name, usage = "ensemble", "ensemble:HOW:JUDGE,JUDGE"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.how not in HOWS or len(self.parts) < 2:
            raise JudgeNameError(f"an ensemble is written {self.usage}, with HOW one of {', '.join(HOWS)}")
        for member in self.members:
            if member.gives != "scores" or member.asks_server or member.members:
                raise JudgeNameError(f"{member.name} cannot be part of an ensemble: name models, verifiers, functions")

    @property
    def how(self) -> How:
        return cast("How", self.argument.partition(":")[0])

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(filter(None, self.argument.partition(":")[2].split(",")))

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        return EnsembleJudge([member.open(resources, stack) for member in self.members], self.how)

    def of_members(self, rewards: Sequence[Reward]) -> Reward:
        from twofold.rewards.ensemble import EnsembleReward

        return EnsembleReward(rewards, self.how)


@dataclass(frozen=True)
class ClassifierJudge:
    """A classifier's log-odds of its label for each completion."""

    classifier: Classifier
    provenance: Mapping[str, Any]

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        texts = [(transcript_of(q.prompt), final_text(c.completion)) for q in questions for c in q.candidates]
        scores: list[float] = []
        progress.begin(TASK, len(texts))
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            scores += self.classifier.scores(part)
            progress.advance(TASK, len(part))
        progress.end(TASK)
        if late := self.classifier.too_long(texts):
            progress.warn(f"{late} texts are longer than {self.classifier.limit} tokens: their ends are not read")
        each = iter(scores)
        return [[next(each) for _ in question.candidates] for question in questions]


class ClassifierKind(JudgeKind):
    """the log-odds of a text classifier's label for a completion"""

    name, usage = "classifier", "classifier:FOLDER[#LABEL][?reads=completion|whole|pair]"

    def __post_init__(self) -> None:
        folder, _, reads = self._parts
        if not folder or reads not in READS:
            raise JudgeNameError(f"the judge is written {self.usage}")

    @property
    def _parts(self) -> tuple[str, str, str]:
        """The folder, the label, and what is read."""
        name, mark, query = self.argument.partition("?")
        folder, _, label = name.partition("#")
        return folder, label, query.removeprefix("reads=") if mark else READS[0]

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        from twofold.rewards.classifier import Classifier

        folder, label, reads = self._parts
        about = {"kind": self.name, "model": folder, "label": label, "reads": reads}
        return ClassifierJudge(Classifier.load(folder, label, cast("Reads", reads)), about)
