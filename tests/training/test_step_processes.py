"""A step of one process among several: what it counts, what it leaves to the first one, and when a fault is raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.batch import Batch, Outputs
from twofold.errors import NonFiniteError
from twofold.models.packing import Packing
from twofold.objectives import AOT, SFT
from twofold.objectives.base import Loss, Objective, Term, logps
from twofold.training import step as steps
from twofold.training.step import Averages, Part, Round, Step
from twofold.training.trainable import POLICY, Trainable
from twofold.world import Turn


class Among:
    """One of two processes. `other` is what the other one has counted and moved."""

    size = 2

    def __init__(self, rank: int = 0, other: tuple[int, list[str]] = (0, [])) -> None:
        self.first, self.other, self.ends = rank == 0, other, 0

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other] if isinstance(value, tuple) else [value, []]

    def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        return {name: 2 * value for name, value in figures.items()}

    def pooled(self, parts: Mapping[int, Tensor], lengths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        """The other process gives −1 for each token of its packs."""
        assert dtype == torch.float64
        return [parts.get(i, torch.full((n,), -1.0, dtype=dtype)) for i, n in enumerate(lengths)]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        yield
        self.ends += 1


def stepper(
    among: Among, monkeypatch: pytest.MonkeyPatch, turns: list[Turn] | None = None, packing: Packing | None = None
) -> tuple[Step, list[bool], list[int]]:
    """A step, how its gradients are summed, and how many groups each call of its model had."""
    monkeypatch.setattr(steps, "world", lambda: among)
    policy = tiny.policy()
    each = Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values(), lr=0.0))
    sums: list[bool] = []
    calls: list[int] = []
    forward = policy.forward
    monkeypatch.setattr(each, "sum_gradients", lambda *, moved: sums.append(moved))
    monkeypatch.setattr(each, "non_finite", str)
    monkeypatch.setattr(policy, "forward", lambda *args, **how: calls.append(len(args[0])) or forward(*args, **how))
    if turns is not None:
        monkeypatch.setattr(policy, "turns", lambda packs: turns)
    return Step([each], providers={}, packing=packing or Packing(), clip=None), sums, calls


GROUPS = tiny.groups((3, 4), (2, 2), (4, 1))


@pytest.mark.parametrize(
    ("rank", "other", "skipped", "moved"),
    [
        (0, (0, []), 1.0, False),
        (0, (3, ["critic"]), 4.0, False),
        (1, (3, [POLICY]), 3.0, True),
        (1, (0, []), None, False),
    ],
)
def test_what_is_skipped_is_counted_by_the_first_and_moved_by_any(
    rank: int, other: tuple[int, list[str]], skipped: float | None, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, sums, calls = stepper(Among(rank, other), monkeypatch)
    metrics = step(Round(0, [Part([], SFT())]))
    assert metrics.get("skipped") == skipped
    assert (sums, calls) == ([moved], [])


def test_a_loss_here_moves_the_model_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    step, sums, _ = stepper(Among(1), monkeypatch)
    step(Round(0, [Part(GROUPS, SFT())]))
    assert sums == [True]


def test_packs_of_others_and_padding_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three packs this process has the second, and calls its model once more to keep up with the other one."""
    turns = [Turn(1), Turn(0, real=False)]
    step, _, calls = stepper(Among(), monkeypatch, turns, Packing(groups=1))
    metrics = step.measure([Part(GROUPS, SFT())])
    row = tiny.policy().logps(GROUPS[1:2])[0]
    tokens = sum(len(b.tokens) for g in GROUPS for b in g.branches)
    assert metrics["loss"] == pytest.approx(2 * -row[0].sum().item() / tokens, rel=1e-9)  # the sum of both processes
    assert metrics["demonstration_length"] == pytest.approx(2 * 2 / 3)
    assert calls[:2] == [1, 1]


class Broken(Objective):
    """Not finite for rows of these many tokens."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        value = -logps(outputs)
        name = f"of {len(value)}"
        return Loss({name: Term(value * (torch.inf if len(value) in self.lengths else 1.0), "token")})


def test_a_fault_is_raised_when_all_packs_are_done_and_it_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    among = Among()
    step, _, calls = stepper(among, monkeypatch, packing=Packing(groups=1))
    with pytest.raises(NonFiniteError) as error:
        step.measure([Part(GROUPS, Broken(4, 1))])
    assert str(error.value) == (
        "row 0, row 1, row 2: the loss 'of 4' is inf\n  → lower the learning rate, or look at these rows"
    )
    assert (len(calls), among.ends) == (3, 0)
    step.measure([Part(GROUPS, Broken())])
    assert (len(calls), among.ends) == (6, 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_sorted_step_is_figured_by_the_first_process(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them see all packs; were each to count, the step would count twice."""
    groups = [
        g.with_columns([{"ref_logp": torch.full_like(b.tokens, -2.0).double()} for b in g.branches])
        for g in tiny.pairs(3)
    ]
    turns = [Turn(0), Turn(2, real=False)]
    step, sums, calls = stepper(Among(rank), monkeypatch, turns, Packing(groups=1))
    metrics = step(Round(0, [Part(groups, AOT())]))
    assert ("loss/aot" in metrics) == (rank == 0)
    assert (sums, calls) == ([True], [1] * 4)
    assert metrics["grad_norm"] > 0


class Whole(Objective):
    """The sum of squares of all log-probabilities, which needs all packs at once, or nothing."""

    couples = True

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({} if self.empty else {"square": Term(logps(outputs).square(), "token")})


def test_a_sorted_step_has_gradients_of_its_own_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has the last two packs; here the second of them is only run to keep up with it."""
    turns = [Turn(0), Turn(2, real=False)]
    step, _, _ = stepper(Among(), monkeypatch, turns, Packing(groups=1))
    metrics = step(Round(0, [Part(GROUPS, Whole())]))
    policy = tiny.policy()
    tokens = sum(len(b.tokens) for g in GROUPS for b in g.branches)
    outputs, _ = policy(GROUPS[:1])
    square = logps(outputs).square().sum()
    (square / tokens).backward()
    grads = [p.grad for p in policy.trainable().values() if p.grad is not None]
    others = tokens - len(logps(outputs))
    assert metrics["loss"] == pytest.approx(2 * (square.item() + others) / tokens, rel=1e-6)
    assert metrics["grad_norm"] == pytest.approx(torch.stack([g.norm() for g in grads]).norm().item(), rel=1e-5)


@pytest.mark.parametrize(("rank", "skipped"), [(0, 1.0), (1, None)])
def test_a_sorted_step_of_nothing_is_skipped_once(
    rank: int, skipped: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, sums, _ = stepper(Among(rank), monkeypatch, [Turn(0)], Packing(groups=1))
    assert step(Round(0, [Part(GROUPS, Whole(empty=True))])).get("skipped") == skipped
    assert sums == [False]


def test_spreads_are_of_the_names_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nothing was spread; the other process has a mean of 3 and a mean of squares of 25."""

    class Other(Among):
        def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
            return {**figures, "x": 3.0, "x_std": 25.0}

        def gather(self, value: Any) -> list[Any]:
            return [value, ["x", "x"]]

    monkeypatch.setattr(steps, "world", Other)
    averages = Averages()
    averages.add("y", torch.tensor([1.0]), 1)
    assert averages.figures() == {"y": 1.0, "x": 3.0, "x_std": 4.0}


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_one_token_has_a_mean_whatever_it_weighs(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [g.with_columns([{"weight": weight}]) for g in tiny.groups((3, 1))]
    step, _, _ = stepper(Among(), monkeypatch)
    monkeypatch.setattr(Among, "summed", lambda self, figures: figures)
    expected = -tiny.policy().logps(groups)[0][0].item()
    assert step.measure([Part(groups, SFT())])["loss"] == pytest.approx(expected, rel=1e-9)
