"""Full tuning in bfloat16: small rates learn from the first step on, the first loss is ln 2, what is stopped goes on to
the same bits, and what is written is what was trained."""

from __future__ import annotations

from math import log

import torch

from support import tiny
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import FrozenReference, with_reference
from twofold.objectives import DPO
from twofold.training.optim import AdamW
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

RATE = AdamW(learning_rate=3e-6, schedule="constant", warmup=0.0)


def policy(*, masters: bool = True, autocast: torch.dtype | None = torch.bfloat16) -> Policy:
    """Its weights lie on bfloat16's grid, as those of most folders do."""
    model = tiny.llama(hidden_size=64, intermediate_size=128, num_hidden_layers=3).bfloat16().float()
    made = Policy(model, autocast=autocast)
    if masters:
        made.keep_masters()
    return made


def losses(model: Policy, steps: int, trainable: Trainable | None = None) -> list[float]:
    groups = tiny.pairs(16)
    reference = policy(masters=False, autocast=model.autocast)
    groups = with_reference(groups, reference.logps(groups, Packing()))
    trainable = trainable or Trainable.of(POLICY, model, RATE, 100)
    step = Step([trainable], providers={}, packing=Packing())
    return [step(Round(i, [Part(groups, DPO(beta=0.5))]))["loss"] for i in range(steps)]


def test_small_steps_lower_the_loss_as_in_float32() -> None:
    exact = losses(policy(masters=False, autocast=None), 8)
    plain, spread = losses(policy(masters=False), 8), losses(policy(), 8)
    assert abs(spread[0] - log(2)) < 1e-6
    fall = exact[0] - exact[-1]
    assert abs((spread[0] - spread[-1]) / fall - 1) < 0.4, (exact, plain, spread)
    assert abs(plain[0] - plain[-1]) < 0.4 * fall, (exact, plain, spread)


def test_what_is_restored_goes_on_to_the_same_bits() -> None:
    whole, begun, resumed = policy(), policy(), policy()
    one, two, three = (Trainable.of(POLICY, each, RATE, 100) for each in (whole, begun, resumed))
    losses(whole, 6, one)
    losses(begun, 3, two)
    saved = [{n: t.clone() for n, t in each.items()} for each in (two.weights(), two.moments())]
    three.restore(saved[0], saved[1], 3)
    assert losses(resumed, 3, three) == losses(begun, 3, two)
    for name, weight in one.weights().items():
        assert torch.equal(weight, three.weights()[name]), name
        assert not torch.equal(weight, weight.bfloat16().float()) or weight.dim() == 1, "a master has more bits"
    assert all(torch.equal(p, p.bfloat16().float()) for p in resumed.parameters())


def test_a_reference_is_what_the_policy_computed() -> None:
    """Of masters off the grid as well: they are rounded before the copy is made."""
    model = Policy(tiny.llama(), autocast=torch.bfloat16)
    model.keep_masters()
    groups = tiny.pairs(4)
    for mine, theirs in zip(model.logps(groups), FrozenReference(model).logps(groups, Packing()), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_only_weights_trained_under_bfloat16_have_masters() -> None:
    for model in (policy(autocast=None), tiny.lora_policy(dtype=torch.float32, autocast=torch.bfloat16)):
        model.keep_masters()
        assert model.masters is None
