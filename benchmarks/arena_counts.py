"""What a method costs in tokens: trained, sampled and judged, counted where they pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from twofold.models.packed_model import PackedModel
from twofold.sampling.base import Draft, Sampler


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

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts what any held model is asked within; a shared prompt counts once, as it is computed once."""

        def count(module: nn.Module, given: tuple[Any, ...]) -> None:
            if isinstance(module, PackedModel):
                num = sum(g.num_tokens for g in given[0])
                if torch.is_grad_enabled():
                    self.trained += num
                else:
                    self.judged += num

        handle = register_module_forward_pre_hook(count)
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
    ) -> list[list[Draft]]:
        rows = self.sampler.sample(prompts, samples=samples, seed=seed)
        self.tokens.sampled += sum(map(len, prompts)) + sum(len(d.tokens) for drafts in rows for d in drafts)
        return rows
