"""Samples of the reference are those of the model inside its context, drawn as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch

from twofold.sampling.reference import ReferenceSampler


class Recorder:
    """A reference and a sampler that record their calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    @contextmanager
    def activated(self) -> Iterator[Any]:
        self.calls.append("in")
        yield "model"
        self.calls.append("out")

    def make(self, model: Any) -> Any:
        self.calls.append(model)
        return self

    def sample(self, prompts: Any, **how: Any) -> list[list[Any]]:
        self.calls.append((prompts, how))
        return [["sample"]]


def test_the_reference_is_active_while_it_is_sampled() -> None:
    made, prompts = Recorder(), [torch.tensor([1])]
    sampler = ReferenceSampler(cast(Any, made), made.make)
    assert sampler.sample(prompts, samples=3, seed=(4, 5)) == [["sample"]]
    assert made.calls == ["in", "model", (prompts, {"samples": 3, "seed": (4, 5)}), "out"]
    made.calls.clear()
    sampler.sample(prompts)
    assert made.calls[2] == (prompts, {"samples": 1, "seed": (0, 0)})
