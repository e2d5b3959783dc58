"""Fresh heads by hand: what is drawn, where it lies, and what a model without a score is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr
from torch import nn

from support import tiny
from twofold.errors import ModelError
from twofold.models.heads import ScoreHead, ValueHead, _fresh_head, _refuse_labels, _with_head, wrap_value_model
from twofold.models.load import LoadedModel, ModelSettings


@pytest.mark.parametrize("bias", [False, True])
def test_entries_are_drawn_by_the_seed_and_a_bias_is_zero(bias: bool) -> None:
    state = torch.get_rng_state()
    head = _fresh_head(nn.Linear(8, 3, bias=bias), 4)
    drawn = torch.empty(1, 8).normal_(0, 1 / 3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(head.weight, drawn)
    assert (head.bias is not None) == bias
    if bias:
        assert head.bias.tolist() == [0.0]
    again = _fresh_head(nn.Linear(8, 3, bias=bias), 4)
    assert torch.equal(again.weight, head.weight)
    assert not torch.equal(_fresh_head(nn.Linear(8, 3), 5).weight, head.weight)
    nn.Linear(8, 1)
    torch.set_rng_state(state)


def test_a_head_lies_where_its_model_does() -> None:
    model: Any = tiny.llama().to(torch.float64).to("meta")
    model.train()
    tokenizer = tiny.tokenizer()
    made, seed, note = _with_head(LoadedModel(model, tokenizer, frozenset({2})), 3, "here")
    score: Any = made.model.score
    assert (score.weight.device.type, score.weight.dtype, made.model.config.num_labels) == ("meta", torch.float64, 1)
    assert (seed, note) == (3, "here has no score head: a fresh one was drawn from seed 3")
    assert made.model.model is model.model
    assert made.model.config is model.config
    assert not made.model.training
    assert (made.tokenizer, made.stop_tokens) == (tokenizer, {2})


def test_a_value_model_in_memory_begins_at_zero() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    model = tiny.llama()
    held, loaded = wrap_value_model(ModelSettings(path="here", precision="float32"), model, tokenizer, 3)
    assert held.note == "here has no score head: a new one begins at zero"
    assert [value.tolist() for value in held.values(tiny.groups((3, 2)))[0]] == [[0.0, 0.0]]
    assert (held.model.base_model, loaded.stop_tokens) == (model.base_model, {2})


def test_heads_read_ends_or_every_token_without_a_cache() -> None:
    """The cache would be made for nobody."""
    config = tr.LlamaConfig(**{**tiny.DECODER, "num_labels": 1})
    model: Any = tiny.sharp(tr.LlamaForSequenceClassification(config)).double()
    calls: list[dict[str, Any]] = []
    model.base_model.register_forward_pre_hook(lambda _, __, how: calls.append(how), with_kwargs=True)
    groups = tiny.groups((3, 2, 1))
    assert ScoreHead().of_rows(model, groups).shape == (2,)
    assert ValueHead().of_rows(model, groups).shape == (3,)
    assert [tuple(how["input_ids"].shape) for how in calls] == [(2, 5), (2, 4)]
    assert [how["use_cache"] for how in calls] == [False, False]


def test_labels_are_one() -> None:
    _refuse_labels(tr.LlamaConfig(num_labels=1), "here")
    for count in (2, 3):
        with pytest.raises(ModelError) as error:
            _refuse_labels(tr.LlamaConfig(num_labels=count), "here")
        assert error.value.what == f"a classifier of {count} labels is no reward model"
