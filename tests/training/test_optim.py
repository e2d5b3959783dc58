"""The schedule by value, decay on matrices only, and a rate that is a function of the step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.training.optim import AdamW, make_optimizer, make_schedule


def factors(settings: AdamW, steps: int) -> list[float]:
    return [settings.factor(step, steps) for step in range(steps)]


def test_linear_rises_through_its_warm_up_and_falls_towards_0() -> None:
    found = factors(AdamW(warmup=3), 9)
    assert found == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_a_fraction_of_warm_up_is_of_all_steps() -> None:
    assert factors(AdamW(warmup=0.25), 8) == factors(AdamW(warmup=2), 8)


def test_constant_and_no_warm_up() -> None:
    assert factors(AdamW(schedule="constant", warmup=0), 4) == [1, 1, 1, 1]
    assert factors(AdamW(schedule="constant", warmup=1), 4) == [0.5, 1, 1, 1]


def test_cosine_is_half_way_at_the_middle_and_ends_above_final() -> None:
    found = factors(AdamW(schedule="cosine", warmup=0, min_lr_ratio=0.2), 8)
    assert found[0] == 1
    assert found[4] == pytest.approx(0.6)
    assert found == pytest.approx([0.2 + 0.4 * (1 + math.cos(math.pi * k / 8)) for k in range(8)])


def test_decay_falls_on_matrices_only() -> None:
    layer = nn.Linear(3, 3)
    optimizer = make_optimizer(AdamW(weight_decay=0.1, learning_rate=0.5), dict(layer.named_parameters()))
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {id(layer.weight): 0.1, id(layer.bias): 0.0}
    before = [p.detach().clone() for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before[0] * (1 - 0.5 * 0.1))
    assert torch.equal(layer.bias.detach(), before[1])


def test_every_parameter_is_in_one_group_in_order() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1, bias=False))
    optimizer = make_optimizer(AdamW(), dict(model.named_parameters()))
    held = [p for g in optimizer.param_groups for p in g["params"]]
    assert [id(p) for p in held] == [id(p) for dim in (2, 1) for p in model.parameters() if p.dim() == dim]


@pytest.mark.parametrize("start", [1, 4, 9])
def test_a_schedule_taken_up_anywhere_is_the_same(start: int) -> None:
    settings = AdamW(learning_rate=0.3, schedule="cosine", warmup=3)

    def rates(first: int) -> list[float]:
        optimizer = make_optimizer(settings, {"w": nn.Parameter(torch.zeros(2, 2))})
        schedule, seen = make_schedule(settings, optimizer, 10, first), []
        for _ in range(first, 10):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return seen

    assert rates(0) == pytest.approx([0.3 * f for f in factors(settings, 10)], rel=1e-15)
    assert rates(start) == rates(0)[start:]


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0.0), ("warmup", -1.0), ("weight_decay", -0.1), ("min_lr_ratio", 1.5), ("clip", 0.0)],
)
def test_settings_that_cannot_be_meant_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        AdamW(**{field: value})


def test_the_rate_by_default_is_that_of_the_kind_of_tuning() -> None:
    recipe = {"model": {"path": "m"}, "data": {"train": "t.jsonl"}}

    def rate(**changes: Any) -> float | None:
        return validate(Recipe, Document("test", {**recipe, **changes}, {})).optimizer.learning_rate

    assert rate() == 1e-6
    assert rate(model={"path": "m", "lora": {}}) == 1e-5
    assert rate(model={"path": "m", "adapter": "a"}) == 1e-5
    assert rate(model={"path": "m", "lora": {}}, optimizer={"learning_rate": 3e-6}) == 3e-6
    assert rate(optimizer={"weight_decay": 0.1}) == 1e-6
