"""Samples in two parts, and completions without the one of them, letters beyond ASCII included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.tool_templates import QWEN3
from twofold.data.reasoning import Parted, is_whole, parted, reasoning_of, reasoning_tag, spoken, without_reasoning
from twofold.records import Message

OPEN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)


def test_a_sample_with_reasoning_is_a_turn_as_servers_send_it() -> None:
    assert Parted("a").completion == "a"
    assert Parted("á", "é").completion == (Message("assistant", "á", '{"reasoning_content": "é"}'),)
    assert Parted("a") == ("a", "")


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "thought", "thoughts"])
def test_every_name_of_reasoning_is_left_out(key: str) -> None:
    turn = Message("assistant", "a", json.dumps({key: "é", "name": "Zoë"}, ensure_ascii=False))
    assert without_reasoning((turn,)) == (Message("assistant", "a", '{"name": "Zoë"}'),)
    assert reasoning_of((turn,)) == "é"
    alone = Message("assistant", "a", json.dumps({key: 3}))
    assert without_reasoning((alone,)) == "a"
    assert reasoning_of((alone,)) == "3"
    assert reasoning_of((turn, Message("user", "b"), Message("assistant", "c"))) == "", "of the last turn alone"


def test_a_sample_is_parted_at_its_first_closing_tag(tokenizer: Any) -> None:
    made = tokenizer(OPEN)

    def parts(text: str, template: str = OPEN) -> tuple[str, str]:
        return parted(made if template == OPEN else tokenizer(template), made(text)["input_ids"], made.decode)

    assert parts(" so </think> \n a ") == ("a ", "so")
    assert parts("<think>so</think>a") == ("a", "so")
    assert parts("so") == ("", "so")
    assert parts("a", QWEN3) == ("a", "")
    assert parts("\n <think> so </think>a", QWEN3) == ("a", "so")
    assert parts(" a <think>b</think>", QWEN3) == (" a <think>b</think>", "")


@pytest.mark.parametrize("key", ["reasoning", "thoughts"])
def test_a_tag_around_any_name_of_reasoning_is_known(tokenizer: Any, key: str) -> None:
    """Also where the template opens none for the answer, and refuses what it does not know."""
    template = "{% for m in messages %}{% if m.KEY %}<why>\n{{ m.KEY }}</why>{% endif %}{{ m.content }}{% endfor %}"
    assert reasoning_tag(tokenizer(template.replace("KEY", key))) == "why"
    assert reasoning_tag(tokenizer("{{ raise_exception('no') }}")) is None
    assert reasoning_tag(tokenizer("{% for m in messages %}{{ m.reasoning }}{{ m.content }}{% endfor %}")) is None


def test_reasoning_with_a_key_is_spoken_with_what_is_around_it(tokenizer: Any) -> None:
    asked = Message("user", "q")
    answer = Message("assistant", "a", '{"reasoning_content": "so"}')
    found = spoken(tokenizer(QWEN3), (asked, answer))
    assert found is not None
    assert (found.text, found.guess) == ("<think>\nso\n</think>\n\na<|im_end|>\n", "")
    assert is_whole("a  b", "x a b") is True
    assert is_whole("ab", "ba") is False
