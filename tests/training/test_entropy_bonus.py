"""PPO's entropy bonus through a model: neither packing nor padded rows change its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import with_tokens
from twofold.objectives import PPO
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable


@pytest.mark.parametrize("make", [tiny.policy, tiny.lora_policy], ids=["full", "lora"])
def test_no_packing_changes_the_gradient_of_an_entropy_bonus(make: Callable[..., Policy]) -> None:
    """A shared pack, one pack per prompt, and padded rows; without the bonus the gradient is another one."""
    found: dict[str, tuple[dict[str, float], dict[str, Tensor]]] = {}
    ways = {"pack": ("shared", 8, 0.5), "packs": ("shared", 1, 0.5), "rows": ("rows", 8, 0.5), "none": ("rows", 8, 0.0)}
    for name, (sharing, groups, entropy) in ways.items():
        policy = make()
        told = Policy(policy.model, adapter=policy.adapter, sharing=sharing)  # type: ignore[arg-type]  # one of its names
        rolled = [g.with_columns([{"advantage": 0.3}] * len(g.branches)) for g in tiny.pairs(4, seed=0)]
        rolled = with_tokens(rolled, "old_logp", told.logps(rolled))
        optimizer = torch.optim.SGD(told.trainable().values(), lr=0.0)
        step = Step([Trainable(POLICY, told, optimizer)], providers={}, packing=Packing(groups=groups), clip=None)
        metrics = step(Round(0, [Part(rolled, PPO(entropy=entropy))]))
        found[name] = metrics, tiny.gradients(told)
    for name, off in (("packs", 1e-10), ("rows", 1e-6)):  # rows go through the model's own attention
        for ours, theirs in zip(found[name][1].values(), found["pack"][1].values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=off, atol=off)
        assert found[name][0]["entropy"] == pytest.approx(found["pack"][0]["entropy"], rel=off)
    assert 0 < found["pack"][0]["entropy"] < math.log(tiny.VOCABULARY)
    gaps = [(a - b).abs().max() for a, b in zip(found["none"][1].values(), found["pack"][1].values(), strict=True)]
    assert max(gaps) > 1e-3
