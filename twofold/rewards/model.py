"""A trained reward model that scores rows as texts, or the exact tokens that a policy sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from twofold.batch import Group
from twofold.data.steps import separator_of
from twofold.data.tokenize import Encoder
from twofold.data.turns import Turns
from twofold.errors import ModelError
from twofold.models.heads import RewardModel, load_reward_model
from twofold.models.load import LoadedModel, ModelSettings
from twofold.models.locate import model_path
from twofold.models.packing import Packing
from twofold.progress import Progress
from twofold.records import Record
from twofold.rewards.base import Scorer
from twofold.rewards.rows import AT_ONCE, encoder_of, groups_of


@dataclass(frozen=True)
class ModelScorer:
    """A reward model with the encoder that makes its prompts. Raises DataError for a row that is too long for it."""

    model: RewardModel
    encoder: Encoder

    @classmethod
    def load(cls, settings: ModelSettings, max_length: int = 1024, *, cut_prompt: bool = False) -> ModelScorer:
        """From the folder that training left; a language model, whose scores would be chance, raises ModelError."""
        model, loaded = _load(settings)
        return cls(model, encoder_of(loaded, max_length, cut_prompt=cut_prompt))

    def groups(self, records: Sequence[Record], progress: Progress) -> list[Group]:
        """One group per record; the answer of a problem is its completion."""
        return groups_of(records, self.encoder, progress)

    def score(self, records: Sequence[Record], progress: Progress) -> list[list[float]]:
        return self.score_groups(self.groups(records, progress), progress)

    def score_groups(self, groups: Sequence[Group], progress: Progress) -> list[list[float]]:
        """Scores per group and branch."""
        found: list[list[float]] = []
        progress.begin("score", len(groups))
        for at in range(0, len(groups), AT_ONCE):
            part = groups[at : at + AT_ONCE]
            found += self.model.scores(part)
            progress.advance("score", len(part))
        progress.end("score")
        return found


def open_reward(name: str, max_length: int = 1024, *, cut_prompt: bool = False, steps: str | None = None) -> Scorer:
    """The reward model of a folder, of a run directory or of a hub name; with `steps` a process reward model, which
    combines the scores of steps in this way (`rewards/steps.py`)."""
    if steps is not None:
        from twofold.rewards.steps import StepScorer

        return StepScorer.load(name, max_length, cut_prompt=cut_prompt, how=steps)
    return ModelScorer.load(ModelSettings(path=model_path(name)), max_length, cut_prompt=cut_prompt)


@dataclass(frozen=True)
class ModelReward:
    """A reward model's score of the sampled tokens, with or without a stop token. `renders`: whether it was trained on
    text prompts in its chat template."""

    model: RewardModel
    packing: Packing
    renders: bool = False

    @classmethod
    def load(cls, settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, packing: Packing) -> ModelReward:
        """Raises ModelError for a model without a trained head, and for one of another vocabulary than the policy's."""
        model, loaded = _load(settings)
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise ModelError(
                "this reward model has another vocabulary than the policy, whose tokens it is to score",
                where=settings.path,
                remedy="train one from the policy's own base",
            )
        return cls(model.requires_grad_(False), packing, Turns(loaded.tokenizer).renders)

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return self.model.scores(groups, self.packing)


def _load(settings: ModelSettings) -> tuple[RewardModel, LoadedModel]:
    model, loaded = load_reward_model(settings)
    if model.note:
        remedy = "train one: objective.kind=bradley_terry"
        raise ModelError("this model has no trained score head", where=settings.path, remedy=remedy)
    if separator_of(loaded.tokenizer) is not None:
        remedy = f"name it process:{settings.path}, where a judge is named"
        raise ModelError("this is a process reward model, which scores steps", where=settings.path, remedy=remedy)
    return model, loaded
