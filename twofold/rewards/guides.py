"""Guides of a beam search: reward models, value models and process reward models on the beginnings of completions.

The best policy under a KL penalty is the base times e^(reward / β), so a search for it adds a value to the base's
log-probability (Mudgal et al. 2023, "Controlled Decoding from Language Models", arXiv:2310.17022; here β is 1). A DPO
policy has that value in its own log-probabilities (arXiv:2404.12358, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.data.steps import split_steps
from twofold.errors import ModelError
from twofold.models.heads import RewardModel, ValueModel, load_value_model
from twofold.models.load import ModelSettings, weights_digest
from twofold.models.locate import model_path, value_model_path
from twofold.models.packing import Packing
from twofold.rewards.model import ModelReward
from twofold.rewards.steps import StepScorer


@dataclass(frozen=True)
class RewardGuide:
    """A reward model's score of a text that ends where each beginning does."""

    model: RewardModel

    @classmethod
    def load(cls, name: str, tokenizer: Any) -> RewardGuide:
        """The reward model of a folder. Raises ModelError for one of another vocabulary than `tokenizer`'s."""
        return cls(ModelReward.load(ModelSettings(path=model_path(name)), tokenizer, Packing()).model)

    @property
    def digest(self) -> str:
        return weights_digest(self.model.model)

    def __call__(self, prompt: Tensor, token_MN: Tensor) -> Tensor:
        (scores,) = self.model.scores([_group(prompt, token_MN)])
        return torch.tensor(scores, dtype=torch.float64, device=token_MN.device)


@dataclass(frozen=True)
class ValueGuide:
    """The reward that a value model (PPO's critic) expects after each beginning. Of a completion that has stopped it is
    what was expected before its stop token: a value model is not trained on what follows that."""

    model: ValueModel
    stop_tokens: frozenset[int]

    @classmethod
    def load(cls, path: str, tokenizer: Any) -> ValueGuide:
        """The value model of a folder. Raises ModelError for one of another vocabulary than `tokenizer`'s, and for a
        model without a trained head."""
        model, loaded = load_value_model(ModelSettings(path=path))
        if model.note:
            remedy = "name the directory of a finished PPO run, which has its value model"
            raise ModelError("this model has no trained head", where=path, remedy=remedy)
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            what, remedy = "has another vocabulary than the policy, whose tokens it values", "name one of its own runs"
            raise ModelError(what, where=path, remedy=remedy)
        return cls(model.requires_grad_(False), loaded.stop_tokens)

    @property
    def digest(self) -> str:
        return weights_digest(self.model.model, "value")

    def __call__(self, prompt: Tensor, token_MN: Tensor) -> Tensor:
        more_M1 = token_MN.new_full((len(token_MN), 1), min(self.stop_tokens))
        (rows,) = self.model.values([_group(prompt, torch.cat([token_MN, more_M1], 1))])  # read before each token
        ended = [int(token) in self.stop_tokens for token in token_MN[:, -1].cpu()]
        values = [row[-2 if stopped else -1].item() for row, stopped in zip(rows, ended, strict=True)]
        return torch.tensor(values, dtype=torch.float64, device=token_MN.device)


def load_guide(name: str, tokenizer: Any) -> RewardGuide | ValueGuide:
    """The guide of a folder: a run's value model, if it has one, else a reward model."""
    value_model = value_model_path(name)
    return RewardGuide.load(name, tokenizer) if value_model is None else ValueGuide.load(value_model, tokenizer)


@dataclass(frozen=True)
class StepGuide:
    """The log-probability that the complete steps of each beginning are right, as the scorer combines them: 0 before
    the first step is complete. An answer that ends without a step has −∞."""

    scorer: StepScorer

    @classmethod
    def load(cls, name: str, tokenizer: Any, how: str) -> StepGuide:
        """The process reward model of a folder. Raises ModelError for one of another vocabulary than `tokenizer`'s."""
        scorer = StepScorer.load(name, how=how)
        if scorer.encoder.tokenizer.get_vocab() != tokenizer.get_vocab():
            what, remedy = "has another vocabulary than the policy, whose tokens it scores", "train one from its base"
            raise ModelError(what, where=name, remedy=remedy)
        return cls(scorer)

    @property
    def digest(self) -> str:
        return weights_digest(self.scorer.model.model, self.scorer.how)

    def __call__(self, prompt: Tensor, token_MN: Tensor) -> Tensor:
        stop_M1 = token_MN.new_full((len(token_MN), 1), self.scorer.encoder.stop)
        ended_MN = torch.cat([token_MN, stop_M1], 1)  # a value is read before a token, and the last step needs one
        (rows,) = self.scorer.model.values([_group(prompt, ended_MN)])
        values = [self._value(tokens, row) for tokens, row in zip(ended_MN.cpu(), rows, strict=True)]
        return torch.tensor(values, dtype=torch.float64, device=token_MN.device)

    def _value(self, tokens: Tensor, value_N: Tensor) -> float:
        encoder, separator = self.scorer.encoder, self.scorer.separator
        text, ended = encoder.solution(tokens), int(tokens[-2]) in encoder.stop_tokens
        steps = split_steps(text if ended else text.rpartition(separator)[0], separator)
        if not steps:
            return -math.inf if ended else 0.0
        total = self.scorer.total(self.scorer.of_text(tokens, value_N, steps))
        return math.log(total) if total else -math.inf


def _group(prompt: Tensor, token_MN: Tensor) -> Group:
    return Group("a partial answer", prompt.cpu(), tuple(Branch(tokens, Role.DRAFT) for tokens in token_MN.cpu()))
