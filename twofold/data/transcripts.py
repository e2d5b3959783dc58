"""Dialogues written as one text with the speakers' names in it, split into turns.

The raw turns of Anthropic's HH ("\\n\\nHuman: …\\n\\nAssistant:"; Bai et al. 2022, arXiv:2204.05862), and what Vicuna,
Guanaco and Alpaca put around theirs. A text of another form is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from twofold.data.chat import Chat
from twofold.records import Message, Prompt

_ABOUT_THE_FORM = "Below is an instruction that describes a task"
"""The start of Alpaca's prompts, which has no content of its own."""
_INPUT = "\n### Input:"
"""Alpaca's second part of a question."""


@dataclass(frozen=True)
class Form:
    """How a kind of transcript names its speakers, what is `before` each name but the first, and whether a system
    message may be before the first."""

    user: str
    assistant: str
    before: str
    preface: bool = False

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return re.compile(rf"(?:\A|{self.before})({re.escape(self.user)}|{re.escape(self.assistant)})")

    def turns(self, text: str) -> Chat | None:
        """The turns of `text`, up to the answer that is to come; None where it is of another form."""
        preface, *rest = self._names.split(text.lstrip())
        speakers, texts = rest[::2], [part.strip() for part in rest[1::2]]
        if speakers[-1:] == [self.assistant] and not texts[-1]:
            speakers, texts = speakers[:-1], texts[:-1]
        elif self.assistant not in speakers and not text.startswith("\n\n"):
            return None
        preface = "" if preface.startswith(_ABOUT_THE_FORM) else preface.strip()
        whole = speakers[:1] == speakers[-1:] == [self.user] and bool(texts[-1])
        if not whole or (preface and not self.preface):
            return None
        found = [Message("system", preface)] if preface else []
        for speaker, said in zip(speakers, texts, strict=True):
            role = "user" if speaker == self.user else "assistant"
            if found and found[-1].role == role:
                said = f"{found.pop().content}\n\n{said}"
            found.append(Message(role, "\n".join(filter(None, map(str.strip, said.split(_INPUT))))))
        return tuple(found)

    def answer(self, text: str) -> str:
        """A completion without what belongs to the form: white space around it, and the speaker's name."""
        return text.strip().removeprefix(self.assistant).strip()


FORMS = (
    Form("Human:", "Assistant:", r"\n\n"),
    Form("### Human:", "### Assistant:", "", preface=True),
    Form("### Instruction:", "### Response:", r"\n", preface=True),
    Form("### User:", "### Assistant:", r"\n", preface=True),
    Form("User:", "Assistant:", r"\n"),
    Form("USER:", "ASSISTANT:", r"(?:\s|</s>)", preface=True),
)


def transcript(text: str) -> tuple[Form, Chat] | None:
    """The form of a transcript and its turns; None for any other text."""
    return next(((form, turns) for form in FORMS if (turns := form.turns(text)) is not None), None)


def as_chat(prompt: Prompt) -> Chat:
    """A prompt as the chat that completions of turns follow: a text that is no transcript is a user's turn."""
    turns = split(prompt)
    return (Message("user", turns),) if isinstance(turns, str) else turns


def split(prompt: Prompt) -> Prompt:
    """The turns of a prompt that is a transcript; any other prompt as it is."""
    found = transcript(prompt) if isinstance(prompt, str) else None
    return prompt if found is None else found[1]
