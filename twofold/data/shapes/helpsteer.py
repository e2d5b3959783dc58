"""HelpSteer3's preferences: two responses to a conversation, and how much better the second one is.

https://huggingface.co/datasets/nvidia/HelpSteer3 (Wang et al. 2025, arXiv:2505.11475): `overall_preference` is -3 where
the first response is much better, to 3 where the second one is. A row with 0 is passed over. The strength of a
preference is not read, as the scores of other sets are not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair

PREFERENCE = "overall_preference"


def _preferred(row: Fields) -> Pair:
    remedy = "write a number below 0 where response1 is better, above 0 where response2 is, or remove the row"
    preference = row.number(PREFERENCE, row.row[PREFERENCE], remedy)
    if preference == 0:
        row.pass_over(PREFERENCE, "is 0: neither response is better", "no preference")
    first = preference is not None and preference < 0
    sides = ("response1", "response2") if first else ("response2", "response1")
    prompt, (chosen, rejected) = row.turns("context", *sides)
    return Pair(prompt, chosen, rejected, row.source)


def _opinions(_: Mapping[str, Any]) -> Collection[str]:
    """Of the annotators, which the overall preference sums up."""
    return ("individual_preference",)


SHAPES = (
    Shape(
        "context + response1 + response2 (HelpSteer3)",
        ("context", "response1", "response2", PREFERENCE),
        _preferred,
        beside=_opinions,
    ),
)
