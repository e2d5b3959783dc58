"""A prompt and its completions as fields of a row that can be read again."""

from __future__ import annotations

from typing import Any

from twofold.data.transcripts import as_chat
from twofold.records import Completion, Prompt, prompt_fields, turns_of


def row_fields(prompt: Prompt, **completions: Completion | list[Completion]) -> dict[str, Any]:
    """The fields of the prompt, and `completions` by the names of theirs. Where one of them has more than text, all are
    messages, with the marks of their turns, and so is the prompt."""
    several = [each for told in completions.values() for each in (told if isinstance(told, list) else [told])]
    if all(isinstance(each, str) for each in several):
        return {**prompt_fields(prompt), **completions}
    listed = {
        name: [_messages(each) for each in told] if isinstance(told, list) else _messages(told)
        for name, told in completions.items()
    }
    return {**prompt_fields(as_chat(prompt)), **listed}


def _messages(completion: Completion) -> list[dict[str, Any]]:
    return [turn.as_row() for turn in turns_of(completion)]
