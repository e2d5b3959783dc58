"""Reasoning that a template has no key for, as the text between the tags that its generation prompt opens."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twofold.data.hidden_keys import opened_tag, with_open_reasoning
from twofold.data.reasoning import Spoken, spoken
from twofold.records import Message

OPEN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
ASKED = Message("user", "Ja?")


def thoughtful(**more: str) -> Message:
    return Message("assistant", "Ja", json.dumps({"reasoning": "so", **more}, ensure_ascii=False))


def test_reasoning_goes_between_the_tags_and_other_keys_stay(tokenizer: Callable[..., Any]) -> None:
    model = tokenizer(OPEN)
    assert opened_tag(model) == "think"
    named = Message("assistant", "<think>\nso\n</think>\n\nJa", '{"name": "Zoë"}')  # letters as they are
    assert with_open_reasoning(model, (ASKED, thoughtful(name="Zoë"))) == (ASKED, named)
    assert with_open_reasoning(model, (ASKED, thoughtful())) == (ASKED, Message("assistant", named.content, ""))
    assert with_open_reasoning(model, (ASKED, named)) == (ASKED, named)


def test_without_a_tag_or_with_a_key_it_stays(tokenizer: Callable[..., Any]) -> None:
    chat = (ASKED, thoughtful())
    assert opened_tag(tokenizer()) is None
    assert with_open_reasoning(tokenizer(), chat) == chat
    assert with_open_reasoning(tokenizer(OPEN.replace("{{ m.content", "{{ m.reasoning }}{{ m.content")), chat) == chat


def test_words_before_an_opened_tag_are_not_repeated(tokenizer: Callable[..., Any]) -> None:
    """The generation prompt ends in them, so an answer that begins with them goes on after them."""
    model = tokenizer(OPEN.replace("<think>", "now <think>"))
    for text in ("now <think>\nso\n</think>\n\nJa", "now <think>so\n</think>\n\nJa"):
        assert spoken(model, (ASKED, Message("assistant", text))) == Spoken("so\n</think>\n\nJa\n")
