"""The objective of a process reward model: values by hand, soft labels, weights, and a table that learns its labels."""

from __future__ import annotations

import math

import pytest
import torch

from support.scenes import group, near
from twofold.batch import STEP_LABEL, Batch, Branch, Group, Outputs, Role
from twofold.objectives import ProcessReward
from twofold.objectives.checks import total


def solution(name: str, labels: list[float], **columns: float) -> Group:
    tokens = torch.zeros(len(labels), dtype=torch.int64)
    return group(name, Branch(tokens, Role.STEPS, {STEP_LABEL: torch.tensor(labels).double()}, columns))


def test_process_reward_by_hand() -> None:
    """Values 2, −1 and 0 at steps that are right, right and wrong: log(1 + e^−2) = 0.126928, log(1 + e) = 1.313262,
    log 2 = 0.693147; their mean is 0.711112. The gradient is (σ(v) − y) / 3: −0.039734, −0.243686, 0.166667, and 0 at
    the tokens where no step ends."""
    batch = Batch.of([solution("a", [-1, 1, -1, 1]), solution("b", [-1, 0])])
    value_S = torch.tensor([9.0, 2.0, 9.0, -1.0, 9.0, 0.0], dtype=torch.float64, requires_grad=True)
    loss = ProcessReward()(Outputs(value_S=value_S), batch)
    assert loss.terms["process_reward"].value.tolist() == near([0.126928011, 1.313261688, 0.693147181])
    mean = total(loss, batch)
    assert mean.item() == pytest.approx(0.711112293, abs=1e-9)
    (grad_S,) = torch.autograd.grad(mean, value_S)
    assert grad_S.tolist() == near([0, -0.039734307, 0, -0.243686193, 0, 0.166666667])
    metrics = {name: term.value.tolist() for name, term in loss.metrics.items()}
    assert metrics == {
        "accuracy": [1, 0, 0], "right": [1, 1, 0], "probability": near([1 / (1 + math.exp(-2)), 1 / (1 + math.e), 0.5]),
    }  # fmt: skip


def test_a_soft_label_is_least_costly_at_its_own_probability() -> None:
    batch = Batch.of([solution("a", [0.25])])
    value_S = torch.tensor([math.log(0.25 / 0.75)], dtype=torch.float64, requires_grad=True)
    loss = total(ProcessReward()(Outputs(value_S=value_S), batch), batch)
    assert loss.item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75), abs=1e-9)
    assert torch.autograd.grad(loss, value_S)[0].item() == pytest.approx(0, abs=1e-12)


def test_weights_are_those_of_the_rows_of_steps() -> None:
    batch = Batch.of([solution("a", [1, -1, 0], weight=2.0), solution("b", [-1, 1], weight=0.5)])
    weights = batch.weights("step")
    assert weights is not None
    assert (weights.tolist(), batch.count("step"), batch.mass("step")) == ([2.0, 2.0, 0.5], 3, 4.5)


def test_a_table_of_values_learns_its_labels() -> None:
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    batch = Batch.of([solution("a", [1, 0, -1])])
    optimizer = torch.optim.Adam([theta], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        total(ProcessReward()(Outputs(value_S=theta), batch), batch).backward()
        optimizer.step()
    right, wrong, unrated = theta.detach().tolist()
    assert right > 2
    assert wrong < -2
    assert unrated == 0


def test_another_models_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="the model gives no values"):
        ProcessReward()(Outputs(score_B=torch.zeros(1)), Batch.of([solution("a", [1])]))
