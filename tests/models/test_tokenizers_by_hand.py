"""Additions to a tokenizer by hand: ids in order, rows of the model, and arguments of one template or of several."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from twofold.errors import ModelError
from twofold.models.tokenizers import Added, added_rows, beyond, grow, prepare


def test_ids_are_in_order_and_known_tokens_are_not_new() -> None:
    tokenizer = tiny.tokenizer()
    assert prepare(tokenizer, ("<b>", "7", "<a>"), {}) == Added([7, 61, 62], [61, 62])
    assert tokenizer.convert_tokens_to_ids(["<b>", "<a>"]) == [61, 62]
    assert prepare(tokenizer, ("<a>",), {}) == Added([62], [])
    assert beyond(tokenizer, tiny.llama()) == Added([61, 62], [61, 62])
    assert beyond(tiny.tokenizer(), tiny.llama()) == Added([], [])


def test_rows_are_the_mean_of_those_before_them_biases_too() -> None:
    model: Any = tiny.llama()
    model.lm_head = nn.Linear(32, 61)
    inputs, bias = model.get_input_embeddings().weight.detach().clone(), model.lm_head.bias.detach().clone()
    state = torch.get_rng_state()
    grow(model, Added([], []))
    assert added_rows(model) == []
    grow(model, Added([5, 61], [61]))
    assert torch.equal(torch.get_rng_state(), state)
    assert added_rows(model) == [5, 61]
    assert model.get_input_embeddings().weight.shape == model.lm_head.weight.shape == (62, 32)
    torch.testing.assert_close(model.get_input_embeddings().weight[61], inputs.mean(0))
    torch.testing.assert_close(model.lm_head.bias[61], bias.mean())
    before = model.get_input_embeddings().weight.detach().clone()
    grow(model, Added([60, 61], [60, 61]))  # rows to spare, of which the first 60 count
    assert len(model.get_input_embeddings().weight) == 62
    torch.testing.assert_close(model.get_input_embeddings().weight[60:], before[:60].mean(0).expand(2, -1))
    assert torch.equal(model.get_input_embeddings().weight[:60], before[:60])


def test_arguments_are_defaults_at_the_start_of_every_template() -> None:
    tokenizer: Any = tiny.tokenizer()
    tokenizer.chat_template = {"default": "{{ a }}", "tools": "{{ b }}{{ tools }}"}
    prepare(tokenizer, (), {"b": "x", "a": True})
    begin = (
        "{% if a is not defined %}{% set a = true %}{% endif %}\n"
        '{% if b is not defined %}{% set b = "x" %}{% endif %}\n'
    )
    assert tokenizer.chat_template == {"default": f"{begin}{{{{ a }}}}", "tools": f"{begin}{{{{ b }}}}{{{{ tools }}}}"}
    once = dict(tokenizer.chat_template)
    prepare(tokenizer, (), {"b": "x", "a": True})
    assert tokenizer.chat_template == once
    plain: Any = tiny.tokenizer()
    plain.chat_template = "{{ a }}"
    prepare(plain, (), {"a": 3})
    assert plain.chat_template == "{% if a is not defined %}{% set a = 3 %}{% endif %}\n{{ a }}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("thinkin", "'thinkin' is nothing that the chat template reads\n  → did you mean `thinking`?"),
        ("tools", "'tools' is not yours to set\n  → leave it out"),
        ("tooIs", "'tooIs' is nothing that the chat template reads\n  → leave it out"),
        ("xyz", "'xyz' is nothing that the chat template reads\n  → leave it out"),
    ],
)
def test_arguments_that_would_do_nothing(name: str, words: str) -> None:
    tokenizer: Any = tiny.tokenizer()
    tokenizer.chat_template = "{{ thinking }}{{ tools }}"
    with pytest.raises(ModelError) as error:
        prepare(tokenizer, (), {name: 1})
    assert str(error.value) == f"model.template_arguments: {words}"
    tokenizer.chat_template = None
    with pytest.raises(ModelError) as error:
        prepare(tokenizer, (), {"thinking": 1})
    assert str(error.value) == (
        "model.template_arguments: arguments of the chat template are given, and the tokenizer has none\n"
        "  → leave them out, or choose a model with a chat template"
    )
