"""An algorithm whose completions are sampled one step ahead: what is requested when, and what is saved of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from twofold.algorithms.ahead import AheadAlgorithm
from twofold.algorithms.base import Algorithm
from twofold.sampling.base import SampleRequest
from twofold.training.step import Round


@dataclass
class Noting(Algorithm):
    """Requests its step's number as a prompt, but for step 1, which needs no completions."""

    calls: list[Any] = field(default_factory=list[Any])
    rows: Any = "rows"

    def round(self, step: int, state: dict[str, Any]) -> Round:
        self.calls.append(("round", step, state))
        return Round(step, [])

    def request(self, step: int) -> SampleRequest | None:
        return None if step == 1 else SampleRequest([torch.tensor([step])], 2, (7, step))

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        self.calls.append(("observe", metrics, state))

    @property
    def fixed_rows(self) -> Any:
        return self.rows

    @property
    def stateful(self) -> Any:
        return ("own",)


class Turns:
    """Takes the place of the sampler."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def turn(self, step: int, now: SampleRequest | None, following: SampleRequest | None) -> None:
        numbers = [None if request is None else request.seed[1] for request in (now, following)]
        self.calls.append(("turn", step, *numbers))


def test_each_round_requests_the_samples_of_the_next_one() -> None:
    inner = Noting()
    sampler: Any = Turns(inner.calls)
    made, state = AheadAlgorithm(inner, sampler=sampler, steps=4), {"a": 1}
    for step in range(4):
        assert made.round(step, state).step == step
    assert inner.calls == [
        ("turn", 0, 0, None), ("round", 0, state), ("turn", 1, None, 2), ("round", 1, state),
        ("turn", 2, 2, 3), ("round", 2, state), ("turn", 3, 3, None), ("round", 3, state),
    ]  # fmt: skip
    assert made.stateful == (sampler, "own")


def test_everything_else_is_that_of_the_algorithm_inside() -> None:
    inner = Noting()
    sampler: Any = Turns(inner.calls)
    made = AheadAlgorithm(inner, sampler=sampler, steps=4)
    made.observe({"loss": 1.0}, {"b": 2})
    assert (inner.calls, made.fixed_rows) == ([("observe", {"loss": 1.0}, {"b": 2})], "rows")
