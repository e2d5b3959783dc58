"""Turn markup inside completions: what a chat template adds, or the next turn of a dialogue that was cut too late.

Written turns of raw dialogues (`Human:`) are a check of their own shape.
"""

from __future__ import annotations

from collections.abc import Iterator

from twofold.data.issues import Issue
from twofold.records import Record, completion_fields, text_of

MARKUP = (
    "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|endoftext|>", "<|user|>", "<|assistant|>",
    "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>",
)  # fmt: skip
_HINTS = ("<|", "_turn>", "INST]", "<<SYS")


def turn_markup(record: Record) -> Iterator[Issue]:
    """Completions with markup of turns in them; a prompt may be a rendered one."""
    for field, completion in completion_fields(record):
        text = text_of(completion)
        if any(hint in text for hint in _HINTS):
            mark = next((mark for mark in MARKUP if mark in text), None)
            if mark is not None:
                reason = f"holds the turn markup {mark.strip()!r} at position {text.index(mark) + 1}"
                remedy = "cut the completion there: the chat template marks the turns"
                place = record.source
                yield Issue(place.file, place.row, field, reason, remedy, "warning", "turn markup")
