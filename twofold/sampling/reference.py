"""Drafts of the reference: what the model said before it was trained, or at the last move of a moving reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from twofold.models.reference import LiveReference
from twofold.sampling.base import Draft, Sampler


@dataclass(frozen=True)
class ReferenceSampler:
    """Draws as `make`'s sampler does, from the reference as it is when it is asked."""

    reference: LiveReference
    make: Callable[[PreTrainedModel], Sampler]

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        with self.reference.activated() as model:
            return self.make(model).sample(prompts, samples=samples, seed=seed)
