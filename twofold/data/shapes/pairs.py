"""Preference pairs with a separate prompt, or with the prompt at the start of both sides (TRL's preferences).

https://huggingface.co/docs/trl/dataset_formats. UltraFeedback binarized and axolotl's chatml.ultra, chatml.prompt_pairs
and chatml.argilla_chat are cases of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twofold.data.chat import is_message
from twofold.data.differences import common_length
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair


def _pair(row: Fields, asked: str | None) -> Pair:
    """A preference, with the gold completion if the row has one."""
    best = () if row.row.get("gold") is None else ("gold",)
    prompt, (chosen, rejected, *gold) = row.turns(asked, "chosen", "rejected", *best)
    best_of_all = gold[0] if gold else None
    return Pair(row.with_tools(prompt, row.row.get("tools")), chosen, rejected, row.source, gold=best_of_all)


def _implicit_texts(row: Fields) -> Pair:
    """The texts part at the last white space that both have: TRL's rule, but never inside a word."""
    chosen, rejected = row.completion("chosen"), row.completion("rejected")
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        if chosen is not None and rejected is not None:
            row.fault("chosen" if isinstance(chosen, tuple) else "rejected", "is a chat, not text", "write it as text")
        return Pair("", "", "", row.source)
    shared = chosen[: common_length(chosen, rejected)]
    at = max((i for i, character in enumerate(shared) if character.isspace()), default=0)
    if not shared[:at].strip():
        row.fault("chosen", "is text without a prompt, and begins otherwise than `rejected`", "add a `prompt` column")
        return Pair("", "", "", row.source)
    said = [row.filled(field, text[at:]) for field, text in (("chosen", chosen), ("rejected", rejected))]
    return Pair(shared[:at], said[0], said[1], row.source)


def _texts(row: Mapping[str, Any]) -> bool:
    return isinstance(row["chosen"], str) and isinstance(row["rejected"], str)


def _single_answers(row: Mapping[str, Any]) -> bool:
    """Whether `messages` can be the prompt. In a row with whole conversations it is another conversation."""
    return all(isinstance(v, str) or is_message(v) or (isinstance(v, list | tuple) and len(v) == 1)
               for v in (row["chosen"], row["rejected"]))  # fmt: skip


_AROUND = ("system", "tools", "gold")
SHAPES = (
    Shape("prompt + chosen + rejected", ("prompt", "chosen", "rejected"), partial(_pair, asked="prompt"), _AROUND),
    Shape(
        "messages + chosen + rejected",
        ("messages", "chosen", "rejected"),
        partial(_pair, asked="messages"),
        _AROUND,
        _single_answers,
    ),
)
"""Pairs whose prompt has a field."""

SHARED_BEGINNING = "chosen + rejected (shared beginning)"
IMPLICIT = (
    Shape(SHARED_BEGINNING, ("chosen", "rejected"), _implicit_texts, fits=_texts),
    Shape("chosen + rejected (shared prompt)", ("chosen", "rejected"), partial(_pair, asked=None), _AROUND),
)
"""Pairs whose prompt is what both sides begin with."""
