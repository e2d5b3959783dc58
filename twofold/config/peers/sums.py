"""Several losses of another trainer as one objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def summed(parts: Sequence[tuple[dict[str, Any], float]]) -> dict[str, Any]:
    """Objectives on pairs with their weights as one: the only part of weight 1 itself, else a sum. Parts of weight 0
    are left out. Maximum likelihood is that of chosen, averaged over the tokens of a step."""
    counted = [(objective, weight) for objective, weight in parts if weight]
    if len(counted) == 1 and counted[0][1] == 1:
        return counted[0][0]
    beside = any(objective["kind"] != "sft" for objective, _ in counted)
    return {"kind": "sum", "parts": [_part(objective, weight, beside) for objective, weight in counted]}


def _part(objective: dict[str, Any], weight: float, beside: bool) -> dict[str, Any]:
    side = {"on": "chosen"} if beside and objective["kind"] == "sft" else {}
    return {**objective, **({} if weight == 1 else {"weight": weight}), **side}
