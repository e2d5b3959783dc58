"""A named model: where it is read, and what its encoder and its sampler are made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import tiny
from twofold.data.tokenize import TokenizeSettings
from twofold.models.load import LoadedModel, ModelSettings
from twofold.sampling import named_model
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import NamedModel, open_model


@pytest.fixture
def loaded() -> LoadedModel:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    return LoadedModel(tiny.llama(), tokenizer, frozenset({2}))


def test_a_name_is_looked_up_and_its_settings_are_handed_on(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(named_model, "model_path", lambda name: f"{name}/model")
    monkeypatch.setattr(named_model, "load_model", lambda settings: asked.append(settings) or loaded)
    monkeypatch.setattr(named_model, "Encoder", lambda *arguments: asked.append(arguments) or "encoder")
    how = TokenizeSettings(max_length=99)
    made = open_model("run", how, "never")  # type: ignore[arg-type]  # handed on as it is
    assert (made.name, made.loaded, made.encoder) == ("run", loaded, "encoder")
    open_model("run")
    encoder = (loaded.tokenizer, loaded.stop_tokens)
    settings = ModelSettings(path="run/model")
    assert asked == [settings, (*encoder, how, "never"), settings, (*encoder, None, "auto")]


@pytest.mark.parametrize("narrow", [torch.bfloat16, None])
def test_a_sampler_computes_in_the_precision_of_the_model(
    narrow: torch.dtype | None, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(named_model, "autocast_of", lambda *arguments: asked.append(arguments) or narrow)
    made = NamedModel("here", loaded, None)  # type: ignore[arg-type]  # no prompt is encoded
    notes: list[str] = []
    sampling = Sampling(max_new_tokens=3)
    sampler = made.sampler(sampling, notes.append)
    assert asked == [(ModelSettings(path="here"), loaded.model)]
    assert (sampler.model, sampler.tokenizer, sampler.settings) == (loaded.model, loaded.tokenizer, sampling)
    assert (sampler._autocast, sampler.ends.stop_tokens) == (narrow, [2])
    sampler.tell("slow")
    made.sampler(sampling).tell("heard by nobody")
    assert notes == ["slow"]
    assert made.policy.model is loaded.model
