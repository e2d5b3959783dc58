"""What rates a policy's own drafts: the verifier, a trained reward model, a function of yours.

None of them runs what a draft says; `execution.py` does, and only in a sandbox.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from twofold.batch import Group
from twofold.errors import ModelError, NonFiniteError
from twofold.models.heads import RewardModel, load_reward_model
from twofold.models.load import ModelSettings
from twofold.models.packing import Packing
from twofold.rewards.base import Reward
from twofold.rewards.verifier import Verifier

RewardFunction: TypeAlias = Callable[[str, str, str | None], float]
"""(prompt, completion, ground truth or None) → reward; texts without special tokens."""


@dataclass(frozen=True)
class VerifierReward:
    """1 for a draft with the right answer, 0 for any other."""

    verifier: Verifier

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        found: list[list[float]] = []
        for group in groups:
            assert group.truth is not None, "checked before step 0"
            found.append([float(self.verifier.right(b.tokens, group.truth)) for b in group.branches])
        return found


@dataclass(frozen=True)
class ModelReward:
    """A reward model's score of the very tokens that were drawn, with or without a stop token."""

    model: RewardModel
    packing: Packing

    @classmethod
    def load(cls, settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, packing: Packing) -> ModelReward:
        """Raises ModelError for a model without a trained head, and for one of another vocabulary than the policy's."""
        model, loaded = load_reward_model(settings)
        if model.note:
            remedy = "train one: objective.kind=bradley_terry"
            raise ModelError("this model has no trained score head", where=settings.path, remedy=remedy)
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise ModelError(
                "this reward model has another vocabulary than the policy, whose tokens it is to score",
                where=settings.path,
                remedy="train one from the policy's own base",
            )
        return cls(model.requires_grad_(False), packing)

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return self.model.scores(groups, self.packing)


@dataclass(frozen=True)
class FunctionReward:
    """What a function says of prompt, draft and ground truth as texts; `text` turns tokens [n] into text."""

    function: RewardFunction
    text: Callable[[Tensor], str]

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[self._one(group, b.tokens) for b in group.branches] for group in groups]

    def _one(self, group: Group, tokens: Tensor) -> float:
        truth = None if group.truth is None else self.text(group.truth)
        return float(self.function(self.text(group.prompt), self.text(tokens), truth))


@dataclass(frozen=True)
class Rewards:
    """Several rewards, by name, each with its weight."""

    sources: Sequence[tuple[str, float, Reward]]

    def rate(self, groups: Sequence[Group]) -> dict[str, list[list[float]]]:
        """What each says, unweighted. Raises NonFiniteError for a reward that is no finite number."""
        found = {name: source.rate(groups) for name, _, source in self.sources}
        for name, rows in found.items():
            for group, row in zip(groups, rows, strict=True):
                if not all(map(math.isfinite, row)):
                    raise NonFiniteError(f"the reward {name} is not finite: {row}", where=group.name)
        return found

    def total(self, said: dict[str, list[list[float]]]) -> list[list[float]]:
        """The weighted sum for each draft."""
        weighed = [[[weight * r for r in row] for row in said[name]] for name, weight, _ in self.sources]
        return [[sum(parts) for parts in zip(*rows, strict=True)] for rows in zip(*weighed, strict=True)]
