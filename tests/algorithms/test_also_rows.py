"""Rows next to those of an algorithm: which ones in a step, and how much they count."""

from __future__ import annotations

from typing import Any

import torch

from support import tiny
from twofold.algorithms.also import ALSO, AlsoAlgorithm
from twofold.algorithms.base import Algorithm
from twofold.data.order import Order
from twofold.objectives import DPO, SFT
from twofold.sampling.base import SampleRequest
from twofold.training.step import Part, Round


class Inner(Algorithm):
    def round(self, step: int, state: dict[str, Any]) -> Round:
        return Round(step, [Part(tiny.pairs(1), DPO(), 0.5)], {"drafts": 3.0})

    def request(self, step: int) -> SampleRequest | None:
        return SampleRequest([torch.tensor([step])], 1, (0, step))

    @property
    def stateful(self) -> Any:
        return ("own",)


def test_a_part_of_further_rows_follows_the_others() -> None:
    groups = tiny.groups(*[(2, n) for n in range(1, 8)])
    objective = SFT()
    made = AlsoAlgorithm(Inner(), groups=groups, objective=objective, size=3, weight=0.25, seed=5)
    order = Order(7, 5)
    for step in (0, 1, 4):
        found = made.round(step, {})
        first, further = found.parts
        assert (found.step, found.figures, first.weight, first.name) == (step, {"drafts": 3.0}, 0.5, "")
        assert [g.name for g in further.groups] == [groups[i].name for i in order.at(step, 3)]
        assert (further.objective, further.weight, further.name, further.trainable) == (objective, 0.25, ALSO, "policy")
    request = made.request(6)
    assert request is not None
    assert (request.seed, made.stateful, ALSO) == ((0, 6), ("own",), "also")
