"""What is the same for every method, and what a ledger of finished cells must have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

VERSION = 2
"""docs/pretrained.md lists the versions. Raise it for a change of a fixed part."""
Split: TypeAlias = Literal["development", "test"]
DEVELOPMENT_SEED, SCREENING_SEED = 100, 0
FINALIST_SEEDS = (1, 2, 3, 4, 5)
MAX_KL = 10.0
"""Nats from the base, of samples for development prompts: a point beyond it is not chosen."""
BASELINES = ("DPO", "DPO + NLL")
"""What every other finalist is compared with."""


@dataclass(frozen=True)
class Protocol:
    """Budget and measurement."""

    version: int = VERSION
    tokens: int = 30_000
    """A run ends after the step at which this many tokens passed a model."""
    batch_size: int = 8
    rank: int = 16
    """Of LoRA."""
    warmup: int = 2
    """Steps of a rising learning rate."""
    most_steps: int = 1000
    max_new_tokens: int = 64
    max_length: int = 384
    samples: int = 2
    """Answers to each test prompt, at temperature 1."""
    best_of: int = 16
    shots: int = 4
    beams: int = 5
    precision: str = "bfloat16"
    """Fixed, so that cells of two machines are comparable."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
