"""Prompts that rows write as text, before a model with a chat template: a user's turn, several turns, or bare text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from twofold.data.chat import rendering
from twofold.data.differences import common_length
from twofold.data.hidden_keys import with_open_reasoning
from twofold.data.shapes.pairs import SHARED_BEGINNING
from twofold.data.transcripts import transcript
from twofold.errors import RecipeError
from twofold.progress import counted
from twofold.records import Message, Prompt

ChatChoice = Literal["auto", "text", "chat"]
"""What becomes of text prompts: turns where there is a chat template (auto), always bare text, or always turns."""
PromptForm = Literal["chat", "turn", "transcript", "rendered", "text", "none"]
"""A chat of the row's own; text as one user's turn; as several turns; that holds the template already; bare; absent."""
CHOICE = "twofold_chat"
"""The entry of tokenizer_config.json in which a model keeps a choice it was trained under, for auto to follow."""
GUESS_REMEDY = "write prompts as messages, or choose data.chat: text or chat"

_PROBES = "the-first-of-twofold", "the-answer-of-twofold", "the-last-of-twofold"
_MARKERS = re.compile(r"<\|[a-z_]+\|>|<｜[^｜\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_NAMED = re.compile(r"(?:\A|\n)[ #*]*([A-Za-z][A-Za-z;.]{0,19})[ *]*:")
_OPEN = re.compile(r"\n[ #*]*([A-Za-z][A-Za-z;.]{0,19})[ *]*:\s*\Z")
_ANSWERING = {"assistant", "ai", "bot", "gpt", "chatgpt", "model", "answer", "response"}


def _same(text: str) -> str:
    return text


def _jointless(text: str) -> str:
    """Without the one space that parts a completion from a text prompt; deeper indentation is its own."""
    return text[1:] if text[:1] == " " and text[1:2].strip() else text


@dataclass(frozen=True)
class PutPrompt:
    """A prompt as it is put to the model, what form that is, what becomes of a completion after it, and what makes the
    choice a guess."""

    prompt: Prompt
    form: PromptForm
    answer: Callable[[str], str] = _same
    guess: str = ""


class Turns:
    """Formats prompts according to `choice`. The choice used in training is stored in the tokenizer, and auto uses it.

    Raises RecipeError where turns are asked for and the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, choice: ChatChoice = "auto") -> None:
        self._tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        trained: ChatChoice = getattr(tokenizer, "init_kwargs", {}).get(CHOICE, "auto")
        self.choice: ChatChoice = trained if choice == "auto" else choice
        if choice == "chat" and not self.has_template:
            what = "chat is asked for, and the tokenizer has no chat template"
            remedy = "choose a model with a chat template, or leave the choice at auto"
            raise RecipeError(what, where="data.chat", remedy=remedy)
        self.renders = self.has_template and self.choice != "text"
        self._before, self._behind = _frame(tokenizer) if self.renders else ("", "")

    def of_format(self, name: str) -> str:
        """What makes turns of the prompts of a whole file a guess."""
        if self.choice != "auto" or not self.renders or name != SHARED_BEGINNING:
            return ""
        return "prompts are what both texts begin with, up to a word, and are put as a user's turn"

    def put(self, prompt: Prompt) -> PutPrompt:
        """The prompt as the model will see it, before it is tokens."""
        if not isinstance(prompt, str):
            return PutPrompt(with_open_reasoning(self._tokenizer, prompt) if self.has_template else prompt, "chat")
        if not prompt.strip():
            return PutPrompt(prompt, "none")
        if not self.renders:
            return PutPrompt(prompt, "text")
        careful = self.choice == "auto"
        if careful and self._is_rendered(prompt):
            return PutPrompt(prompt, "rendered", guess="already holds the model's chat template: left unchanged")
        found = transcript(prompt)
        if found is not None:
            form, turns = found
            return PutPrompt(turns, "transcript", form.answer)
        return PutPrompt((Message("user", prompt),), "turn", _jointless, _doubt(prompt) if careful else "")

    def _is_rendered(self, text: str) -> bool:
        return bool(self._behind) and text.rstrip().endswith(self._behind) and self._before in text


def _frame(tokenizer: Any) -> tuple[str, str]:
    """What a template puts before every user's turn, and behind the last one; empty where it does not show."""
    first, said, last = _PROBES
    with suppress(Exception):  # a template that does not accept this raises an error when a row is rendered
        head, _, tail = rendering(tokenizer, [Message("user", first)], generation_prompt=True).partition(first)
        with suppress(Exception):
            turns = [Message("user", first), Message("assistant", said), Message("user", last)]
            between = rendering(tokenizer, turns, generation_prompt=True).partition(said)[2].partition(last)[0]
            head = head[len(head) - common_length(head[::-1], between[::-1]) :]
        tail = tail.strip()
        return head.removeprefix(tokenizer.bos_token or "").strip(), tail if len(tail) > 2 else ""
    return "", ""


def _doubt(text: str) -> str:
    """Why it is a guess that all of `text` is one user turn."""
    marker, opened = _MARKERS.search(text), _OPEN.search(text)
    if marker is not None:
        return f"holds {marker[0]}, a mark of a chat template, and is put as one user's turn"
    names = {name.lower() for name in _NAMED.findall(text)}
    if opened is not None or (len(names) > 1 and names & _ANSWERING):
        where = f", ends with `{opened[1]}:`," if opened is not None else ""
        return f"looks like a transcript of no known form{where} and is put as one user's turn"
    return ""


def keep_choice(tokenizer: Any, choice: ChatChoice) -> None:
    """Leave a choice of the user's in the tokenizer, to be saved with it and followed wherever the model is used."""
    if choice != "auto" and getattr(tokenizer, "chat_template", None):
        tokenizer.init_kwargs[CHOICE] = choice


class PromptTally:
    """Counts of prompts by their form, and of what made a form a guess, with the first row of each kind."""

    def __init__(self) -> None:
        self.forms = Counter[str]()
        self.guesses = dict[str, tuple[int, str]]()

    def add(self, form: PromptForm, guess: str, row: str) -> None:
        self.forms[form] += 1
        if guess:
            count, first = self.guesses.get(guess, (0, row))
            self.guesses[guess] = count + 1, first


def guessed(guesses: Mapping[str, tuple[int, str]]) -> list[str]:
    """A warning for each kind of guess."""
    return [f"{counted(count, 'prompt')}, the first at {first}: {guess}" for guess, (count, first) in guesses.items()]


def described(forms: Mapping[str, int], *, has_template: bool) -> str:
    """How prompts are put, for a person: `forms` counts them."""
    said = {
        "chat": "as chats in the model's chat template",
        "turn": "as a user's turn in the model's chat template",
        "transcript": "as transcripts split into turns of the model's chat template",
        "rendered": "unchanged: they hold the model's chat template already",
        "text": "as bare text (chat: text)" if has_template else "as bare text: the tokenizer has no chat template",
    }
    return "; ".join(f"{forms[form]} {how}" for form, how in said.items() if forms.get(form))
