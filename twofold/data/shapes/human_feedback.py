"""Anthropic's raw human feedback: each side one string of turns, "\\n\\nHuman: …\\n\\nAssistant: …".

https://huggingface.co/datasets/Anthropic/hh-rlhf (Bai et al. 2022, arXiv:2204.05862). The prompt is text, as in the DPO
paper's own experiments, and ends with the last "\\n\\nAssistant:" that both sides have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twofold.data.differences import common_length
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def _raw(row: Mapping[str, Any]) -> bool:
    sides = (row["chosen"], row["rejected"])
    return all(isinstance(s, str) and s.startswith(HUMAN) and ASSISTANT in s for s in sides)


def _human_feedback(row: Fields) -> Pair:
    nothing = Pair("", "", "", row.source)
    sides = [row.completion("chosen"), row.completion("rejected")]
    if not all(isinstance(s, str) for s in sides):
        if None not in sides:
            row.fault("chosen", "is no text of turns", r'write it as "\n\nHuman: …\n\nAssistant: …"')
        return nothing
    texts = [str(s) for s in sides]
    shared = texts[0][: common_length(*texts)]
    at = shared.rfind(ASSISTANT)
    if not shared.startswith(HUMAN) or at < 0:
        row.fault(
            "chosen", "shares no turns of human and assistant with `rejected`", "write it as raw HH, or remove it"
        )
        return nothing
    prompt = shared[: at + len(ASSISTANT)]
    for field, text in zip(("chosen", "rejected"), texts, strict=True):
        answer = text[len(prompt) :]
        if HUMAN in answer:
            row.fault(field, "parts from the other side before the last human turn", "remove the row", "two prompts")
        elif not answer.strip():
            row.pass_over(field, "is empty", "empty answer")
        elif ASSISTANT in answer:
            row.remark(
                field, 'holds a further "Assistant:"', "clean the text or remove the row", "turn inside an answer"
            )
    return Pair(prompt, texts[0][len(prompt) :], texts[1][len(prompt) :], row.source)


SHAPES = (Shape("Anthropic HH (raw turns)", ("chosen", "rejected"), _human_feedback, fits=_raw),)
