"""Sampling from the reference model: the model before training, or a moving reference at its last update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from twofold.models.reference import LiveReference
from twofold.sampling.base import Sample, Sampler


@dataclass(frozen=True)
class ReferenceSampler:
    """Samples from the current reference, with the sampler that `make` creates for it."""

    reference: LiveReference
    make: Callable[[PreTrainedModel], Sampler]

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        with self.reference.activated() as model:
            return self.make(model).sample(prompts, samples=samples, seed=seed)
