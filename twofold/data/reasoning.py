"""Renders completions after a generation prompt for chat templates that render an answered turn differently.

Templates of reasoning models remove the reasoning from an answered turn, and some open `<think>` in the generation
prompt (DeepSeek-R1: arXiv:2501.12948). Training uses the tokens that the model has to generate after exactly the prompt
that it gets.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from twofold.data.chat import Chat, rendering
from twofold.records import Message

_PROBE = "the-answer-of-twofold"
_TAG = re.compile(r"<([^<>/\s]+)>\s*\Z")


class Spoken(NamedTuple):
    """What follows the generation prompt, the end of the turn included, and what makes it a guess."""

    text: str
    guess: str = ""


def is_whole(text: str, turn: str) -> bool:
    """Whether a rendered turn holds all of `text`, white space aside."""
    return "".join(text.split()) in "".join(turn.split())


def spoken(tokenizer: Any, chat: Chat) -> Spoken | None:
    """The last turn of `chat`, whole; None where the template does not show where an answer begins and ends."""
    *asked, answer = chat
    before = rendering(tokenizer, asked, generation_prompt=True)
    header, probe, end = rendering(tokenizer, (*asked, Message("assistant", _PROBE))).partition(_PROBE)
    if not probe or not (header.startswith(before) or before.startswith(header)):
        return None
    opened, text = before[len(header) :].strip(), answer.content
    if text.lstrip().startswith(opened):
        return Spoken((text.lstrip().removeprefix(opened).lstrip("\n") if opened else text) + end)
    tag = _TAG.search(opened)
    if tag is None:
        return None
    closing = f"</{tag[1]}>"
    if closing in text:
        return Spoken(text + end)
    guess = f"the chat template opens {tag[0].strip()}, and answers without {closing} follow it as an empty one"
    return Spoken(f"\n{closing}\n\n{text}{end}", guess)
