"""What a method costs in tokens: trained, sampled and judged, counted where they pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from twofold.batch import Group
from twofold.models.packed_model import PackedModel
from twofold.sampling.base import Sample, Sampler


@dataclass
class Tokens:
    """Tokens through a model: with a gradient, drawn from it, or without a gradient (reference, old policy, reward)."""

    trained: int = 0
    sampled: int = 0
    judged: int = 0

    @property
    def all(self) -> int:
        return self.trained + self.sampled + self.judged

    def as_dict(self) -> dict[str, int]:
        return {"trained": self.trained, "sampled": self.sampled, "judged": self.judged}

    def counting(self) -> AbstractContextManager[None]:
        """Counts what goes through any packed model within; a shared prompt counts once, as it is computed once."""

        def count(model: PackedModel, groups: Sequence[Group]) -> None:
            num = sum(g.num_tokens for g in groups)
            if torch.is_grad_enabled():
                self.trained += num
            else:
                self.judged += num

        return watching(count)


@contextmanager
def watching(note: Callable[[PackedModel, Sequence[Group]], object]) -> Iterator[None]:
    """Calls `note` before every forward of a packed model within."""

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, PackedModel):
            note(module, inputs[0])

    handle = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class CountedSampler:
    """A sampler whose tokens are counted: every prompt once, and all that is drawn."""

    sampler: Sampler
    tokens: Tokens

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        rows = self.sampler.sample(prompts, samples=samples, seed=seed)
        self.tokens.sampled += sum(map(len, prompts)) + sum(len(d.tokens) for drafts in rows for d in drafts)
        return rows
