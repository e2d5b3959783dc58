"""A model by the name that a user gives, ready to answer prompts and to score answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.turns import ChatChoice
from twofold.models.load import LoadedModel, ModelSettings, autocast_of, load_model, wrap
from twofold.models.locate import model_path
from twofold.models.policy import Policy
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler


@dataclass(frozen=True)
class NamedModel:
    """A model (for a run directory, the trained one) with the encoder of its prompts."""

    name: str
    loaded: LoadedModel
    encoder: Encoder

    @property
    def policy(self) -> Policy:
        """The model as a policy, which computes log-probabilities; it shares the weights."""
        return wrap(ModelSettings(path=self.name), self.loaded.model, self.loaded.tokenizer)[0]

    def sampler(self, sampling: Sampling, note: Callable[[str], None] = lambda message: None) -> LocalSampler:
        """A sampler of the model; `note` gets its notes for users."""
        loaded, autocast = self.loaded, autocast_of(ModelSettings(path=self.name), self.loaded.model)
        return LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling, note, autocast=autocast)


def open_model(name: str, tokenize: TokenizeSettings | None = None, chat: ChatChoice = "auto") -> NamedModel:
    """The model of a folder, adapter, run directory or Hub name. `chat` selects whether text prompts become chats.
    Raises ModelError if there is no such model."""
    loaded = load_model(ModelSettings(path=model_path(name)))
    return NamedModel(name, loaded, Encoder(loaded.tokenizer, loaded.stop_tokens, tokenize, chat))
