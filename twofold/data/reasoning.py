"""Renders completions after a generation prompt for chat templates that render an answered turn differently.

Templates of reasoning models remove the reasoning from an answered turn, and some open `<think>` in the generation
prompt (DeepSeek-R1: arXiv:2501.12948). Training uses the tokens that the model has to generate after exactly the prompt
that it gets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from twofold.data.chat import Chat, rendering
from twofold.data.differences import common_length
from twofold.data.hidden_keys import TAG

_PROBE = "the-answer-of-twofold"


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
    header, probe, end = rendering(tokenizer, (*asked, replace(answer, content=_PROBE))).partition(_PROBE)
    shared = common_length(header, before)
    opened, tag = before[shared:].strip(), TAG.search(before)
    if not probe or (min(len(header), len(before)) > shared and tag is None):
        return None
    text, between = answer.content, header[shared:]
    if answer.more and shared == len(before):  # reasoning that the template has a key for
        return Spoken(between + text + end)
    opened = opened if min(len(header), len(before)) == shared or tag is None else f"<{tag[1]}>"
    if text.lstrip().startswith(opened):
        return Spoken((text.lstrip().removeprefix(opened).lstrip("\n") if opened else text) + end)
    if tag is None:
        return None
    closing = f"</{tag[1]}>"
    if closing in text:
        return Spoken(text + end)
    if closing in between:  # the template's own way to leave the reasoning out
        return Spoken(between + text + end)
    guess = f"the chat template opens {tag[0].strip()}, and answers without {closing} follow it as an empty one"
    return Spoken(f"\n{closing}\n\n{text}{end}", guess)
