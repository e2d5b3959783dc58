"""A model by the name that a person gives it, ready to answer prompts and to score answers."""

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
    """A model (of a run directory, the one that it made) with the encoder of its prompts."""

    name: str
    loaded: LoadedModel
    encoder: Encoder

    @property
    def policy(self) -> Policy:
        """The model as what gives log-probabilities; the same weights."""
        return wrap(ModelSettings(path=self.name), self.loaded.model, self.loaded.tokenizer)[0]

    def sampler(self, sampling: Sampling, note: Callable[[str], None] = lambda message: None) -> LocalSampler:
        """What draws from it; `note` hears how."""
        loaded, autocast = self.loaded, autocast_of(ModelSettings(path=self.name), self.loaded.model)
        return LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling, note, autocast=autocast)


def open_model(name: str, tokenize: TokenizeSettings | None = None, chat: ChatChoice = "auto") -> NamedModel:
    """The model of a folder, adapter, run directory or hub name, its text prompts put as `chat` says. Raises ModelError
    where there is none."""
    loaded = load_model(ModelSettings(path=model_path(name)))
    return NamedModel(name, loaded, Encoder(loaded.tokenizer, loaded.stop_tokens, tokenize, chat))
