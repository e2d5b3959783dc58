"""A codec of letters, a sampler that answers from a table, and tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from twofold.data.reasoning import Parted
from twofold.records import Prompt, Source, Task
from twofold.sampling.base import Sample


class Letters:
    """A codec of one token per character."""

    def prompt(self, prompt: Prompt) -> Tensor:
        text = prompt if isinstance(prompt, str) else prompt[-1].content
        return torch.tensor([ord(c) for c in text])

    def text(self, tokens: Tensor) -> str:
        return "".join(chr(int(t)) for t in tokens)

    def parted(self, prompt: Prompt, tokens: Tensor) -> Parted:
        return Parted(self.text(tokens))


class Recites:
    """A sampler that answers each prompt from a table; a completion that ends in … was cut."""

    def __init__(self, table: dict[str, str]) -> None:
        self.table, self.calls = table, 0
        self.asked: list[tuple[int, int, tuple[int, int]]] = []
        """Of every call: prompts, samples, seed."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        self.calls += 1
        self.asked.append((len(prompts), samples, seed))
        return [[self._draft(Letters().text(p))] * samples for p in prompts]

    def _draft(self, prompt: str) -> Sample:
        text = self.table[prompt]
        return Sample(Letters().prompt(text), torch.zeros(len(text)), text.endswith("…"))


class Falters(Recites):
    """Answers one prompt fewer than it is asked."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        return super().sample(prompts[1:], samples=samples, seed=seed)


def tasks(*answers: str) -> list[Task]:
    return [Task(f"q{i}", answer, Source("test.jsonl", i + 1)) for i, answer in enumerate(answers)]
