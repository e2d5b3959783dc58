"""Turn markup inside completions: what a chat template adds, or the next turn of a dialogue that was cut too late.

Written turns of raw dialogues (`Human:`) are a check of their own shape.
"""

from __future__ import annotations

from twofold.data.formats import Texts
from twofold.data.issues import Issue
from twofold.records import Record

MARKUP = (
    "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|endoftext|>", "<|user|>", "<|assistant|>",
    "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>",
)  # fmt: skip


def turn_markup(record: Record, read: Texts) -> list[Issue]:
    """Completions with markup of turns in them; a prompt may be a rendered one."""
    faults = list[Issue]()
    for field, text in read:
        if field == "prompt" or not ("<" in text or "[" in text):
            continue
        mark = next((mark for mark in MARKUP if mark in text), None)
        if mark is not None:
            reason = f"holds the turn markup {mark.strip()!r} at position {text.index(mark) + 1}"
            remedy = "cut the completion there: the chat template marks the turns"
            place = record.source
            faults.append(Issue(place.file, place.row, field, reason, remedy, "warning", "turn markup"))
    return faults
