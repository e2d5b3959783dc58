"""A sample's answer and its reasoning, by the tags of the chat template; and completions without reasoning."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.tool_templates import QWEN3
from twofold.data.reasoning import Parted, reasoning_of, reasoning_tag, without_reasoning
from twofold.data.tokenize import Encoder
from twofold.records import Completion, Message

Make = Callable[..., Any]
OPEN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
CHAT = (Message("user", "2 + 2?"),)


def encoder(made: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}))


def tokens(made: Any, text: str) -> list[int]:
    return [*made(text, add_special_tokens=False)["input_ids"], made.eos_token_id]


@pytest.mark.parametrize(
    ("template", "text", "parts"),
    [
        (OPEN, "So 5.\n</think>\n\n4", ("4", "So 5.")),
        (OPEN, "<think>\nSo 5.</think>4 ", ("4 ", "So 5.")),  # opened again
        (OPEN, "So 5 or", ("", "So 5 or")),  # never closed: no answer
        (OPEN, "a</think>b</think>c", ("b</think>c", "a")),
        (QWEN3, "<think>\nSo 5.\n</think>\n\n4", ("4", "So 5.")),
        (QWEN3, "<think>\n\n</think>\n\n4", ("4", "")),
        (QWEN3, "It is 4</think>", ("It is 4</think>", "")),  # was not opened
        (None, "<think>So 5.</think>4", ("<think>So 5.</think>4", "")),
    ],
)
def test_a_sample_is_parted_by_the_tags_of_its_template(
    tokenizer: Make, template: str | None, text: str, parts: tuple[str, str]
) -> None:
    made = tokenizer() if template is None else tokenizer(template)
    assert reasoning_tag(made) == (None if template is None else "think")
    assert encoder(made).parted(CHAT, tokens(made, text)) == parts
    assert Parted(*parts).completion == (
        parts[0] if not parts[1] else (Message("assistant", parts[0], json.dumps({"reasoning_content": parts[1]})),)
    )


@pytest.mark.parametrize("template", [OPEN, QWEN3])
def test_tags_that_are_special_tokens_part_it_too(tokenizer: Make, template: str) -> None:
    made = tokenizer(template)
    made.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    begin = "" if template == OPEN else "<think>"
    assert encoder(made).parted(CHAT, tokens(made, f"{begin}So 5.\n</think>\n4")) == ("4", "So 5.")
    assert encoder(made).parted(CHAT, tokens(made, f"{begin}So 5")) == ("", "So 5")
    unopened = encoder(made).parted(CHAT, tokens(made, "4"))
    assert unopened == (("", "4") if template == OPEN else ("4", ""))


def test_text_behind_no_template_is_whole(tokenizer: Make) -> None:
    made = tokenizer(OPEN)
    plain = Encoder(made, frozenset({made.eos_token_id}), chat="text")
    assert plain.parted("2 + 2?", tokens(made, "So.</think>4")) == ("So.</think>4", "")
    assert encoder(made).parted("2 + 2?", tokens(made, "So.</think>4")) == ("4", "So."), "a text becomes a chat"


CALL = {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}


@pytest.mark.parametrize(
    ("told", "rest", "reasoning"),
    [
        ("4", "4", ""),
        ((Message("assistant", "4", '{"thinking": "So."}'),), "4", "So."),
        (
            (Message("assistant", "4", '{"name": "Zo\u00eb"}'),),
            (Message("assistant", "4", '{"name": "Zo\u00eb"}'),),
            "",
        ),
        (
            (Message("assistant", "", json.dumps({"reasoning": "So.", **CALL})),),
            (Message("assistant", "", json.dumps(CALL)),),
            "So.",
        ),
        (
            (Message("assistant", "a", '{"reasoning": "1"}'), Message("user", "b"), Message("assistant", "c")),
            (Message("assistant", "a"), Message("user", "b"), Message("assistant", "c")),
            "",
        ),
    ],
)
def test_a_completion_without_its_reasoning(told: Completion, rest: Completion, reasoning: str) -> None:
    assert without_reasoning(told) == rest
    assert reasoning_of(told) == reasoning
