"""Figures of a step at their limits: rounding of a spread, weights that multiply, and how often a model is called."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import tiny
from twofold.batch import Batch, Outputs
from twofold.errors import BrokenUpdateError
from twofold.models.packing import Packing
from twofold.objectives import AOT
from twofold.objectives.base import Loss, Objective, Term, logps
from twofold.training.step import Averages, Part, Round, Step
from twofold.training.trainable import POLICY, Trainable


def still(rate: float = 0.0, dtype: torch.dtype = torch.float64) -> Trainable:
    policy = tiny.policy(dtype=dtype)
    return Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values(), lr=rate))


@pytest.mark.parametrize(
    ("mean", "apart", "want"),
    [(1e4, 0.005, 0.0), (1e4, 0.05, 0.05), (1.0, 2e-6, 2e-6), (1.0, 5e-7, 0.0), (0.0, 1e-9, 1e-9)],
)
def test_a_variance_below_a_millionth_of_a_millionth_of_the_square_is_rounding(
    mean: float, apart: float, want: float
) -> None:
    """Of values `mean` ± `apart` the variance is apart², and the mean of squares mean² + apart²: 2.5e-5 is less than
    1e-12 · 1e8, 2.5e-3 is more."""
    averages = Averages()
    averages.add_spread("x", torch.tensor([mean - apart, mean + apart], dtype=torch.float64), 2)
    assert averages.figures()["x_std"] == pytest.approx(want, rel=1e-3, abs=0)


class Weighted(Objective):
    """Two terms, of weights 3 and ¼; the second counts tokens."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        numbers = logps(outputs)
        terms = {"a": Term(-batch.sum(numbers), "branch", 3.0), "b": Term(numbers.square(), "token", 0.25)}
        return Loss(terms, {"plain": Term(numbers.detach(), "token")})


def test_the_weights_of_a_part_and_of_its_terms_multiply() -> None:
    """In the loss and in the gradient; a term's own figure is its mean."""
    groups = tiny.groups((3, 4), (2, 5))
    one, both = (Step([still()], providers={}, packing=Packing(), clip=None) for _ in range(2))
    numbers = torch.cat([row for g in one.policy.model.per_branch(groups, None) for row in g])  # type: ignore[attr-defined]  # a policy
    metrics = both(Round(0, [Part(groups, Weighted(), 0.5)]))
    a, b = -numbers.sum().item() / 2, numbers.square().mean().item()
    assert metrics["loss/a"] == pytest.approx(a, rel=1e-9)
    assert metrics["loss/b"] == pytest.approx(b, rel=1e-9)
    assert metrics["loss"] == pytest.approx(0.5 * (3 * a + 0.25 * b), rel=1e-9)
    outputs, batch = one.policy.model(groups)
    numbers = logps(outputs)
    (0.5 * (3 * -batch.sum(numbers).mean() + 0.25 * numbers.square().mean())).backward()
    for name, parameter in both.policy.parameters.items():
        expected = one.policy.parameters[name].grad
        assert expected is not None
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("packs", "measured", "trained"), [(1, 1, 1), (2, 2, 4), (3, 3, 6)])
def test_an_objective_that_sorts_a_step_calls_the_model_twice_for_each_of_several_packs(
    packs: int, measured: int, trained: int
) -> None:
    """Once for the log-probabilities of all, once to carry the gradient; what fits into one pack needs no second."""
    groups = [
        g.with_columns([{"ref_logp": torch.full_like(b.tokens, -4.0).double()} for b in g.branches])
        for g in tiny.pairs(6)
    ]
    each = still()
    step = Step([each], providers={}, packing=Packing(groups=6 // packs), clip=None)
    calls: list[int] = []
    forward = each.model.forward

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(len(args[0]))
        return forward(*args, **named)

    each.model.forward = counted  # type: ignore[method-assign]  # to count its calls
    part = Part(groups, AOT())
    step.measure([part])
    assert calls == [6 // packs] * measured
    calls.clear()
    step(Round(0, [part]))
    assert calls == [6 // packs] * trained


class Steep(Objective):
    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({"mine": Term(-1e4 * batch.sum(logps(outputs)), "branch")})


def test_the_whole_message_of_an_update_that_breaks_the_weights() -> None:
    each = still(3e38, torch.float32)
    first = next(iter(each.parameters))
    step = Step([each], providers={}, packing=Packing(), clip=None)
    with pytest.raises(BrokenUpdateError) as error:
        step(Round(0, [Part(tiny.groups((3, 4), (2, 2)), Steep())]))
    assert str(error.value) == (
        f"row 0, row 1: after the update {first} is not finite; the update was not saved\n  → lower the learning rate"
    )
