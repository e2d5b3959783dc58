"""What other libraries read of a classifier's folder, and what its loading hands on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import nn

from support import tiny
from twofold.errors import ModelError
from twofold.models import heads
from twofold.models.adapters import CLASSIFYING, LoRA
from twofold.models.heads import RewardModel, ValueModel, load_reward_model, load_value_model, value_model_of
from twofold.models.load import LoadedModel, ModelSettings


class Tokens:
    """A tokenizer of which only the special tokens are read."""

    def __init__(self, pad: int | None, unk: int | None = None, bos: int | None = None) -> None:
        self.pad_token_id, self.unk_token_id, self.bos_token_id = pad, unk, bos
        self.pad_token, self.padding_side = "before", "left"

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"token {token}"


def settled(tokens: Tokens, stops: set[int], size: int = 4) -> Any:
    config = SimpleNamespace(vocab_size=size)
    config.get_text_config = lambda: config
    heads._settle(_loaded(config, tokens, stops))
    return config


def _loaded(config: Any, tokens: Tokens, stops: set[int]) -> Any:
    return SimpleNamespace(model=SimpleNamespace(config=config), tokenizer=tokens, stop_tokens=frozenset(stops))


@pytest.mark.parametrize(
    ("given", "stops", "pad"),
    [
        ((1, 2, 3), {0}, 1), ((1, 2, 3), {1}, 2), ((1, 2, 3), {1, 2}, 3), ((None, None, None), {0, 1}, 2),
        ((4, 9, 3), {0}, 3), ((4, None, None), {1}, 0), ((0, 2, 3), {1}, 0), ((1, 2, 3), {0, 1, 2}, 3),
    ],
)  # fmt: skip
def test_padding_is_a_token_of_the_model_that_stops_nothing(
    given: tuple[Any, Any, Any], stops: set[int], pad: int
) -> None:
    """The tokenizer's own, else the one for unknown words, for beginnings, or the first of all."""
    tokens = Tokens(*given)
    config = settled(tokens, stops)
    assert config.pad_token_id == pad
    assert tokens.pad_token == ("before" if given[0] == pad else f"token {pad}")
    assert (tokens.padding_side, config.problem_type) == ("right", "regression")


@pytest.mark.parametrize(("stops", "eos"), [({3}, 3), ({3, 1, 2}, [1, 2, 3])])
def test_several_stop_tokens_are_a_list(stops: set[int], eos: Any) -> None:
    assert settled(Tokens(0), stops).eos_token_id == eos


def test_a_classifiers_stop_tokens_are_in_its_config() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = None
    model = tr.LlamaForSequenceClassification(
        tr.LlamaConfig(**{**tiny.DECODER, "num_labels": 1, "eos_token_id": [3, 5]})
    )
    assert heads._stops(model, tokenizer, "here") == {3, 5}


@pytest.mark.parametrize("labels", [0, 3])
def test_a_classifier_of_other_than_one_label_is_refused_in_words(labels: int) -> None:
    with pytest.raises(ModelError) as error:
        heads._refuse_labels(SimpleNamespace(num_labels=labels), "here")
    assert error.value.what == f"a classifier of {labels} labels is no reward model"
    assert (error.value.where, error.value.remedy) == (
        "here", "choose a classifier of one label, or a language model, which gets a fresh head",
    )  # fmt: skip


def test_a_model_that_reads_elsewhere_is_refused() -> None:
    config = SimpleNamespace(num_labels=1)
    model: Any = SimpleNamespace(config=config, score=None)
    loaded: Any = SimpleNamespace(model=model, tokenizer=None, stop_tokens=frozenset())
    with pytest.raises(ModelError) as error:
        heads._wrap(ModelSettings(path="here"), loaded, 0, "")
    assert error.value.what == "a SimpleNamespace does not read its score at the last token"
    assert (error.value.where, error.value.remedy) == ("here", "choose a decoder model")


def test_a_model_that_cannot_be_classified_is_refused() -> None:
    model = SimpleNamespace(config=tr.ViTConfig())  # for which there is no classifier of texts
    with pytest.raises(ModelError) as error:
        heads._with_head(SimpleNamespace(model=model), 0, "here")  # type: ignore[arg-type]  # as much as is read
    assert (error.value.where, error.value.remedy) == ("here", "choose a model that transformers can classify")


def test_a_seed_reaches_the_head_of_a_value_model(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[Any]()
    monkeypatch.setattr(heads, "load_reward_model", lambda *given: calls.append(given) or ("reward", "loaded"))
    monkeypatch.setattr(ValueModel, "of", lambda model, settings: (model, settings))
    settings = ModelSettings(path="here")
    assert load_value_model(settings, 5) == (("reward", settings), "loaded")
    assert load_value_model(settings) == (("reward", settings), "loaded")
    assert calls == [(settings, 5), (settings, 0)]


def test_a_classifiers_adapter_is_merged_into_its_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """With the tokenizer of the adapter's folder, if it has one."""
    calls, settings = list[Any](), ModelSettings(path="a", quantize="nf4", lora=LoRA())
    adapter = str(tmp_path)
    base = LoadedModel.__new__(LoadedModel)
    for name, value in (("model", "model"), ("tokenizer", "tokenizer"), ("stop_tokens", frozenset({1}))):
        object.__setattr__(base, name, value)
    monkeypatch.setattr(LoadedModel, "__post_init__", lambda self: None)
    monkeypatch.setattr(heads, "base_and_adapter", lambda path: ("base", adapter))
    monkeypatch.setattr(heads, "adapter_task", lambda path: CLASSIFYING)
    monkeypatch.setattr(heads, "refuse_requantizing", lambda *given: calls.append(("refuse", *given)))
    monkeypatch.setattr(heads, "_loaded", lambda *given: calls.append(("loaded", *given)) or (base, 0, "note"))
    monkeypatch.setattr(heads, "merged", lambda model, path: f"{model} with {path}")
    monkeypatch.setattr(heads, "load_tokenizer", lambda path: f"tokenizer of {path}")
    monkeypatch.setattr(heads, "_wrap", lambda settings, loaded, seed, note: (settings, loaded, seed, note))
    _, plain, seed, note = load_reward_model(settings, 5)  # type: ignore[misc]
    assert (plain.model, plain.tokenizer, seed, note) == (f"model with {adapter}", "tokenizer", 5, "")
    at_base = ModelSettings(path="base", quantize="nf4", lora=LoRA())
    assert calls == [("refuse", "nf4", "a", adapter), ("loaded", at_base, 5, adapter)]
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert load_reward_model(settings)[1].tokenizer == f"tokenizer of {adapter}"


@pytest.mark.parametrize(
    ("lora", "adapter", "trains", "want"),
    [(None, None, False, None), (LoRA(rank=4), None, True, LoRA(rank=4)), (None, "a", True, LoRA())],
)
def test_a_value_model_over_an_adapter_trains_a_new_one(
    lora: LoRA | None, adapter: str | None, trains: bool, want: LoRA | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the settings' kind, else of the default kind; never the policy's own."""
    calls = dict[str, Any]()
    monkeypatch.setattr(LoadedModel, "__post_init__", lambda self: None)
    monkeypatch.setattr(heads, "copied", lambda model: f"copy of {model}")
    monkeypatch.setattr(heads, "merge", lambda model: f"merged {model}")
    monkeypatch.setattr(heads, "is_quantized", lambda model: False)
    monkeypatch.setattr(heads, "in_parts", lambda model: False)
    monkeypatch.setattr(heads, "_with_head", lambda base, seed, path: (base, seed, path))

    def wrap(settings: Any, base: Any, seed: int, path: str) -> Any:
        calls.update(settings=settings, base=base, seed=seed, path=path)
        return "held", "mine"

    monkeypatch.setattr(heads, "_wrap", wrap)
    monkeypatch.setattr(ValueModel, "of", lambda model, settings: (model, settings))
    policy: Any = SimpleNamespace(model="model", adapter="adapter" if trains else None)
    loaded: Any = SimpleNamespace(tokenizer=["t"], stop_tokens=frozenset({1}))
    made, mine = value_model_of(policy, loaded, ModelSettings(path="here", lora=lora, adapter=adapter), 5)
    settings = ModelSettings(path="here", lora=want)
    assert (made, mine, calls["settings"]) == (("held", settings), "mine", settings)
    assert calls["base"].model == ("merged copy of adapter" if trains else "copy of model")
    assert (calls["seed"], calls["path"], calls["base"].stop_tokens) == (5, "here", {1})
    assert calls["base"].tokenizer == ["t"]
    assert calls["base"].tokenizer is not loaded.tokenizer


def test_a_head_scores_in_its_own_width() -> None:
    """Also where autocast would compute in bfloat16."""
    score = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        score.weight.copy_(torch.tensor([[1.0, 2.0**-12]]))
    model: Any = SimpleNamespace(score=score)
    hidden = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = heads._scores(model, hidden)
    assert (found.tolist(), found.dtype) == ([1 + 2.0**-12, 2.0], torch.float32)


def test_scores_and_values_are_read_in_the_packing_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()
    row = [torch.tensor(1.5), torch.tensor(2.5)]
    held: Any = SimpleNamespace(per_branch=lambda groups, packing: asked.append((groups, packing)) or [row])
    assert RewardModel.scores(held, ["g"], "packing") == [[1.5, 2.5]]  # type: ignore[list-item, arg-type]
    assert ValueModel.values(held, ["g"], "packing") == [row]  # type: ignore[list-item, arg-type]
    assert asked == [(["g"], "packing")] * 2
