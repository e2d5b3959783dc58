"""A trained process reward model that scores the steps of completions, and what a completion's score is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from twofold.data.steps import separator_of, split_steps
from twofold.data.tokenize import NOWHERE, Encoder
from twofold.data.turns import Turns
from twofold.errors import ModelError
from twofold.models.heads import ValueModel, load_value_model
from twofold.models.load import ModelSettings
from twofold.models.locate import model_path
from twofold.progress import Progress
from twofold.records import Record, Steps
from twofold.rewards.rows import AT_ONCE, encoder_of, groups_of

AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "product": math.prod,
    "last": lambda scores: scores[-1],
    "mean": fmean,
}
"""The score of a completion from the probabilities of its steps."""


@dataclass(frozen=True)
class StepScorer:
    """A process reward model with the encoder that makes its prompts. `how` names an entry of `AGGREGATES`."""

    model: ValueModel
    encoder: Encoder
    separator: str
    how: str = "min"

    @classmethod
    def load(cls, name: str, max_length: int = 1024, *, cut_prompt: bool = False, how: str = "min") -> StepScorer:
        """From the folder that training left. Raises ModelError for a model that was not trained on steps."""
        settings = ModelSettings(path=model_path(name))
        model, loaded = load_value_model(settings)
        separator = separator_of(loaded.tokenizer)
        if model.note or separator is None:
            remedy = "train one: objective.kind=process_reward; other reward models are named reward:FOLDER"
            raise ModelError("this is no process reward model", where=settings.path, remedy=remedy)
        return cls(model, encoder_of(loaded, max_length, cut_prompt=cut_prompt, separator=separator), separator, how)

    @property
    def renders(self) -> bool:
        """Whether it was trained on text prompts in its chat template."""
        return Turns(self.encoder.tokenizer).renders

    def score(self, records: Sequence[Record], progress: Progress) -> list[list[float]]:
        """The score of each completion."""
        return [[self.total(steps) for steps in row] for row in self.steps(records, progress)]

    def total(self, steps: Sequence[float]) -> float:
        """The score of a completion from those of its steps."""
        return AGGREGATES[self.how](steps)

    def steps(self, records: Sequence[Record], progress: Progress) -> list[list[list[float]]]:
        """For each record and completion the probability that each step is right. The steps of a text are separated by
        what the model was trained with."""
        groups, found = groups_of(records, self.encoder, progress), list[list[list[float]]]()
        progress.begin("score", len(groups))
        for at in range(0, len(groups), AT_ONCE):
            part = groups[at : at + AT_ONCE]
            values = self.model.values(part)
            for record, group, rows in zip(records[at : at + AT_ONCE], part, values, strict=True):
                found.append([self._steps(record, b.tokens, row) for b, row in zip(group.branches, rows, strict=True)])
            progress.advance("score", len(part))
        progress.end("score")
        return found

    def _steps(self, record: Record, tokens: Tensor, value_N: Tensor) -> list[float]:
        if not isinstance(record, Steps):
            return self.of_text(tokens, value_N, split_steps(self.encoder.solution(tokens), self.separator))
        return _at(value_N, self.encoder.step_ends(tokens, record.steps, record.source))

    def of_text(self, tokens: Tensor, value_N: Tensor, steps: Sequence[str]) -> list[float]:
        """The probability of each of `steps`, by the values that the model reads before each of the `tokens` [n]. Steps
        that end in one token have one."""
        return _at(value_N, self.encoder.step_ends(tokens, steps, NOWHERE, join=True))


def _at(value_N: Tensor, ends: Sequence[int]) -> list[float]:
    return value_N.double().sigmoid()[ends].tolist()
