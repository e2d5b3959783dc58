"""The usual learning rates for full fine-tuning or an adapter, and for a toy or a larger model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twofold.reports.run import mapping

SMALL_MODEL = 50_000_000
"""Parameters below which a model is a toy, whose rates are larger."""


def unusual_rate(settings: Mapping[str, Any], parameters: int) -> tuple[str, str] | None:
    """low or high, and a text with the rate and the usual rates for a recipe's `settings`. Two empty strings if it is
    usual, None if unknown. `parameters` is 0 for a model of unknown size."""
    optimizer, model = mapping(settings.get("optimizer")), mapping(settings.get("model"))
    value, kind = optimizer.get("learning_rate"), optimizer.get("kind", "adamw")
    if not isinstance(value, int | float) or not 0 < value < math.inf or kind == "sgd":
        return None
    relative = 30 if kind == "adafactor" else 1  # its rate is a share of the weights' size
    adapter = bool(model.get("lora") or model.get("adapter"))
    toy = 0 < parameters < SMALL_MODEL
    likely = mapping(settings.get("objective")).get("kind") in ("sft", "bradley_terry")
    low, high = (1e-5, 1e-3) if adapter else (1e-7, 1e-4 if likely else 1e-5)
    low, high = relative * low, relative * high
    words = f"{value:g} for {'an adapter' if adapter else 'all weights'}: {low:g} to {high:g} are usual"
    if value < low / 2:
        return "low", words
    return ("high", words) if value > high * (200 if toy else 10) else ("", "")
