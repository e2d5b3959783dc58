"""Renders completions after a generation prompt for chat templates that render an answered turn differently.

Templates of reasoning models remove the reasoning from an answered turn, and some open `<think>` in the generation
prompt (DeepSeek-R1: arXiv:2501.12948). Training uses the tokens that the model has to generate after exactly the prompt
that it gets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from twofold.data.chat import Chat, rendering
from twofold.data.differences import common_length
from twofold.data.hidden_keys import TAG, opened_tag
from twofold.data.message_keys import REASONING
from twofold.records import Completion, Message

_PROBE = "the-answer-of-twofold"


class Parted(NamedTuple):
    """A sample: its answer, and the reasoning before it."""

    answer: str
    reasoning: str = ""

    @property
    def completion(self) -> Completion:
        """A text, or a turn with reasoning, as servers send it."""
        if not self.reasoning:
            return self.answer
        more = {REASONING[0]: self.reasoning}
        return (Message("assistant", self.answer, json.dumps(more, ensure_ascii=False)),)


def parted(tokenizer: Any, ids: Sequence[int], text: Callable[[Sequence[int]], str]) -> Parted:
    """A sample after the template's generation prompt, in its parts; `text` decodes tokens without special ones.

    The reasoning is between the tags that the template opens in its generation prompt, or puts around reasoning. If the
    prompt has opened them and the sample does not close them, it is all reasoning.
    """
    tag = reasoning_tag(tokenizer)
    if tag is None:
        return Parted(text(ids))
    opening, closing = f"<{tag}>", f"</{tag}>"
    is_open, whole = opened_tag(tokenizer) == tag, text(ids)
    special = {*tokenizer.all_special_tokens}
    if closing in special:  # which `text` leaves out
        names: list[str] = tokenizer.convert_ids_to_tokens(list(ids))
        if not is_open and names[:1] != [opening]:
            return Parted(whole)
        end = names.index(closing) if closing in names else len(names)
        return Parted(text(ids[end + 1 :]).lstrip(), text(ids[:end]).strip())
    begun = whole.lstrip()
    if not is_open and not begun.startswith(opening):
        return Parted(whole)
    reasoning, _, answer = begun.removeprefix(opening).partition(closing)
    return Parted(answer.lstrip(), reasoning.strip())


def reasoning_tag(tokenizer: Any) -> str | None:
    """The name of the tags between which the chat template expects reasoning; None where it has none."""
    return opened_tag(tokenizer) or _wrapping_tag(tokenizer, str(getattr(tokenizer, "chat_template", "")))


@lru_cache(32)
def _wrapping_tag(tokenizer: Any, template: str) -> str | None:
    for key in REASONING:
        answer = Message("assistant", "a", json.dumps({key: _PROBE}))
        try:
            before, probe, _ = rendering(tokenizer, (Message("user", "q"), answer)).partition(_PROBE)
        except Exception:  # templates refuse what they dislike with errors of their own
            continue
        if probe and (tag := TAG.search(before)) is not None:
            return tag[1]
    return None


def reasoning_of(told: Completion) -> str:
    """The reasoning of a completion's last turn, if it is apart from the answer."""
    keys = {} if isinstance(told, str) else told[-1].keys()
    return next((str(keys[key]) for key in REASONING if key in keys), "")


def without_reasoning(told: Completion) -> Completion:
    """A completion without the reasoning of its turns; a text where that leaves one turn of text."""
    if isinstance(told, str) or not any({*REASONING} & turn.keys().keys() for turn in told):
        return told
    turns = tuple(_without_reasoning(turn) for turn in told)
    return turns[0].content if len(turns) == 1 and not turns[0].more else turns


def _without_reasoning(turn: Message) -> Message:
    rest = {key: value for key, value in turn.keys().items() if key not in REASONING}
    return replace(turn, more=json.dumps(rest, ensure_ascii=False) if rest else "")


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
    if tag is not None and min(len(header), len(before)) > shared:
        opened = f"<{tag[1]}>"
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
