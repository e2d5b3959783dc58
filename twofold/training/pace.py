"""How fast a step was, and the memory it took: what `timings.jsonl` holds of it."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping

import torch

from twofold.training.step import Round

GIB = 2**30
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of `ru_maxrss`."""


def pace(made: Round, metrics: Mapping[str, float], drawing: float, seconds: float) -> dict[str, float]:
    """Figures of a step of `seconds`, of which its round took `drawing`.

    `tokens` are those of the round's groups, each prompt once, over all processes; `memory_gib` is the peak of this
    process until now: of the GPU where there is one, else of main memory.
    """
    tokens = sum(group.num_tokens for part in made.parts for group in part.groups)
    drafts = {"drafts_per_second": metrics["drafts"] / max(drawing, 1e-9)} if "drafts" in metrics else {}
    return {
        "seconds": round(seconds, 4),
        "tokens": tokens,
        "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
        "memory_gib": round(peak_memory() / GIB, 3),
        **{name: round(value, 4) for name, value in drafts.items()},
    }


def peak_memory() -> int:
    """Bytes that this process had at most until now: on its GPU where it uses one, else of main memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized() and (peak := torch.cuda.max_memory_allocated()):
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
