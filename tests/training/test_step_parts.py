"""Parts of a step by hand: names, faults, zeros that hold processes together, and where a backward pass is the last."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from support import tiny
from twofold.batch import Batch, Group, Outputs
from twofold.errors import NonFiniteError
from twofold.models.packing import Packing
from twofold.objectives import AOT, SFT
from twofold.objectives.base import Loss, Objective, Term
from twofold.training import step as steps
from twofold.training.step import Averages, Part, Round, Step, weighed
from twofold.training.trainable import POLICY, Trainable


def stepper(packing: Packing | None = None) -> Step:
    policy = tiny.policy()
    trainable = Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values(), lr=0.0))
    return Step([trainable], providers={}, packing=packing or Packing(), clip=None)


def test_terms_and_metrics_are_behind_the_name_of_their_part() -> None:
    class Both(Objective):
        def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
            value = batch.sum(outputs.logp_S)
            metrics = {"plain": Term(value, "branch"), "wide": Term(value, "branch", spread=True)}
            return Loss({"mine": Term(value, "branch")}, metrics)

    groups = tiny.groups((3, 2), (2, 4))
    found = stepper().measure([Part(groups, Both(), name="a"), Part(groups, Both())])
    assert set(found) == {
        "loss", "loss/a/mine", "a/plain", "a/wide", "a/wide_std", "loss/mine", "plain", "wide", "wide_std",
    }  # fmt: skip
    assert found["loss"] == pytest.approx(2 * found["loss/mine"], rel=1e-12)


@pytest.mark.parametrize(
    ("outputs", "what", "where"),
    [
        (Outputs(logp_S=torch.tensor([0.0, 0.0, torch.inf])), "log-probability", "row 1"),
        (Outputs(logp_S=None, score_B=torch.tensor([torch.nan, 0.0])), "score", "row 0"),
        (Outputs(logp_S=None, value_S=torch.tensor([0.0, torch.nan, torch.nan])), "value", "row 0, row 1"),
    ],
)
def test_what_is_not_finite_is_named_with_its_rows(outputs: Outputs, what: str, where: str) -> None:
    batch = Batch.of(tiny.groups((3, 2), (2, 1)))
    with pytest.raises(NonFiniteError) as error:
        steps._refuse_non_finite(outputs, batch)
    assert str(error.value) == (
        f"{where}: a {what} is not finite; nothing was updated\n  → lower the learning rate, or look at these rows"
    )
    steps._refuse_non_finite(Outputs(logp_S=torch.zeros(3), value_S=torch.zeros(3)), batch)


def test_without_a_loss_a_zero_depends_on_all_outputs() -> None:
    logp, value = (torch.tensor(x, requires_grad=True) for x in ([1.0, 2.0], [3.0]))
    outputs = Outputs(logp_S=logp, value_S=value)
    zero = steps._joined(None, outputs)
    zero.backward()
    assert (zero.item(), logp.grad.tolist(), value.grad.tolist()) == (0.0, [0.0, 0.0], [0.0])  # type: ignore[union-attr]
    loss = (logp * 2).sum()
    assert steps._joined(loss, outputs) is loss
    assert steps._joined(loss.detach(), outputs).item() == 0.0


@pytest.mark.parametrize("size", [1, 2])
def test_a_fault_waits_where_other_processes_would(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "world", lambda: SimpleNamespace(size=size))
    faults: list[NonFiniteError] = []
    error = NonFiniteError("x", where="", remedy="")
    if size == 1:
        with pytest.raises(NonFiniteError), steps._postponed(faults):
            raise error
        assert faults == []
        return
    with steps._postponed(faults):
        raise error
    assert faults == [error]
    with pytest.raises(KeyError), steps._postponed(faults):
        raise KeyError


@pytest.mark.parametrize(
    ("sizes", "packing", "want"),
    [((2,), Packing(), [True]), ((3,), Packing(groups=1), [False, False, True]),
     ((2, 1), Packing(groups=1), [False, False, True]), ((1, 0), Packing(), [True])],
)  # fmt: skip
def test_the_last_pack_of_the_last_part_ends_the_step(
    sizes: Sequence[int], packing: Packing, want: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    lasts: list[bool] = []
    monkeypatch.setattr(steps, "before_backward", lambda model, *, last: lasts.append(last))
    parts = [Part(tiny.groups(*[(3, 2)] * size), SFT()) for size in sizes]
    stepper(packing)(Round(0, parts))
    assert lasts == want


def test_the_last_pack_of_an_objective_that_sorts_the_step_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lasts: list[bool] = []
    monkeypatch.setattr(steps, "before_backward", lambda model, *, last: lasts.append(last))
    groups = [
        g.with_columns([{"ref_logp": torch.full_like(b.tokens, -4.0).double()} for b in g.branches])
        for g in tiny.pairs(3)
    ]
    part = Part(groups, AOT())
    step = stepper(Packing(groups=1))
    step(Round(0, [part]))
    assert lasts == [False, False, True]
    lasts.clear()
    step(Round(0, [part, Part(tiny.groups((3, 2)), SFT())]))
    assert lasts == [False, False, False, True]
    lasts.clear()
    step.measure([part])
    assert lasts == [True]


def test_weights_multiply_and_a_model_is_noted_only_where_a_loss_trains_it() -> None:
    value = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert weighed(value, None) is value
    found = weighed(value, torch.tensor([3, 0]))
    assert (found.tolist(), found.dtype) == ([3.0, 0.0], torch.float64)
    averages = Averages()
    averages.note("a", None)
    averages.note("b", torch.zeros(1))
    averages.note("c", torch.zeros(1, requires_grad=True))
    assert averages.moved == {"c"}
    averages.add_spread("x", torch.tensor([1.0, 4.0]), 4, torch.tensor([3.0, 1.0]))
    assert averages.figures() == {"x": 1.75, "x_std": pytest.approx((19 / 4 - 1.75**2) ** 0.5)}


def test_gradients_of_the_step_before_are_gone_and_an_empty_round_has_none() -> None:
    step = stepper()
    parameters: list[nn.Parameter] = list(step.policy.parameters.values())
    parameters[0].grad = torch.ones_like(parameters[0])
    assert step(Round(0, [Part(list[Group](), SFT())]))["grad_norm"] == 0.0
    assert all(p.grad is None for p in parameters)


def test_names_are_the_first_four() -> None:
    assert [steps._few([*"abcdef"][:n]) for n in (0, 1, 4, 5)] == ["", "a", "a, b, c, d", "a, b, c, d and 1 more"]
