"""Averages over packs by value, rounds that move several models, and what a step refuses and in which words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from support import tiny
from twofold.batch import Batch, Group, Outputs, Role
from twofold.errors import BrokenUpdateError, NonFiniteError, RecipeError
from twofold.models.packing import Packing
from twofold.objectives import SFT
from twofold.objectives.base import Loss, Objective, Term
from twofold.training.step import Averages, Part, Provider, Round, Step
from twofold.training.trainable import POLICY, Trainable


def test_sums_over_packs_are_means_over_the_count() -> None:
    averages = Averages()
    assert averages.figures() == {}
    averages.add("a", torch.tensor([1.0, 2.0]), 8)
    averages.add("a", torch.tensor([5.0]), 8)
    averages.add("b", torch.tensor([3.0]), 2, 0.5)
    assert averages.figures() == {"a": 1.0, "b": 0.75}


def test_sums_are_taken_in_float64() -> None:
    """In float32, 2²⁴ + 1 is 2²⁴."""
    averages = Averages()
    averages.add("a", torch.tensor([2.0**24, 1.0]), 1)
    assert averages.figures() == {"a": 2.0**24 + 1}


def test_a_spread_is_the_standard_deviation_over_all_packs() -> None:
    """Of 1, 2, 6: mean 3, squares 1 + 4 + 36 over 3 less 9."""
    averages = Averages()
    averages.add("other", torch.tensor([7.0]), 1)
    averages.add_spread("x", torch.tensor([1.0, 2.0]), 3)
    averages.add_spread("x", torch.tensor([6.0]), 3)
    assert averages.figures() == {"other": 7.0, "x": 3.0, "x_std": pytest.approx(math.sqrt(41 / 3 - 9))}


@pytest.mark.parametrize(("values", "want"), [([0.1] * 3, 0.0), ([1.0, 1.0 + 1e-5], 5e-6), ([-3.0, -3.0], 0.0)])
def test_a_spread_that_is_only_rounding_is_none(values: list[float], want: float) -> None:
    averages = Averages()
    averages.add_spread("x", torch.tensor(values, dtype=torch.float64), len(values))
    assert averages.figures()["x_std"] == pytest.approx(want, rel=1e-4, abs=0)


def sgd(name: str, seed: int, rate: float = 0.0) -> Trainable:
    policy = tiny.policy(seed)
    return Trainable(name, policy, torch.optim.SGD(policy.trainable().values(), lr=rate))


class Scaled(Objective):
    """`scale` times the mean negative log-probability of a completion, under a name of its own."""

    def __init__(self, name: str, scale: float) -> None:
        self.name, self.scale = name, scale

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        value_B = -self.scale * batch.sum(outputs.logp_S)
        return Loss({self.name: Term(value_B, "branch", weight=3.0)}, {f"{self.name}_plain": Term(value_B, "branch")})


def test_two_models_learn_in_one_step_each_from_its_own_part() -> None:
    """The loss is the policy's, weights and all; the other's stands under its term's name, and its norm under its own;
    each moves by its own gradient alone, clipped on its own."""
    groups, rows = tiny.groups((3, 4), (2, 2)), tiny.groups((4, 3), seed=5)
    found: dict[str, float] = {}
    alone: dict[str, dict[str, torch.Tensor]] = {}
    for name, seed, members, objective, weight in (
        (POLICY, 0, groups, Scaled("mine", 1.0), 0.5), ("critic", 1, rows, Scaled("value", 2.0), 0.25),
    ):  # fmt: skip
        each = sgd(POLICY, seed, rate=0.1)
        step = Step([each], providers={}, packing=Packing(), clip=0.01)
        metrics = step(Round(0, [Part(members, objective, weight)]))
        found |= {f"{name} {key}": value for key, value in metrics.items()}
        alone[name] = tiny.weights(each.model)  # type: ignore[arg-type]  # a policy
    both = [sgd(POLICY, 0, rate=0.1), sgd("critic", 1, rate=0.1)]
    parts = [Part(groups, Scaled("mine", 1.0), 0.5), Part(rows, Scaled("value", 2.0), 0.25, "critic")]
    step = Step(both, providers={}, packing=Packing(groups=1), clip=0.01)
    metrics = step(Round(0, parts, {"drafts": 2.0}))
    assert metrics == pytest.approx(
        {
            "loss": 1.5 * found["policy mine_plain"],
            "loss/mine": found["policy mine_plain"],
            "mine_plain": found["policy mine_plain"],
            "loss/value": found["critic value_plain"],
            "value_plain": found["critic value_plain"],
            "grad_norm": found["policy grad_norm"],
            "critic/grad_norm": found["critic grad_norm"],
            "drafts": 2.0,
        },
        rel=1e-9,
    )
    assert found["policy loss"] == pytest.approx(1.5 * found["policy mine_plain"], rel=1e-12)
    for each in both:
        for name, weight in tiny.weights(each.model).items():  # type: ignore[arg-type]  # a policy
            torch.testing.assert_close(weight, alone[each.name][name], rtol=1e-9, atol=1e-12)


def test_a_gradient_does_not_stay_for_the_next_step() -> None:
    step = Step([sgd(POLICY, 0)], providers={}, packing=Packing())
    part = Part(tiny.groups((3, 4)), SFT())
    first, second = (step(Round(i, [part])) for i in range(2))
    assert first == second
    empty = step(Round(2, [Part([], SFT()), Part([], SFT())]))
    assert empty == {"grad_norm": 0.0, "skipped": 2.0}


def test_every_pack_without_a_unit_is_counted_as_skipped() -> None:
    class OnChosen(Objective):
        def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
            return Loss({"mine": Term(batch.sum(outputs.logp_S)[batch.of_role(Role.CHOSEN)], "branch:chosen")})

    step = Step([sgd(POLICY, 0)], providers={}, packing=Packing(groups=1))
    metrics = step(Round(0, [Part(tiny.groups((3, 4), (2, 2), (1, 1)), OnChosen())]))
    assert metrics == {"grad_norm": 0.0, "skipped": 3.0}


def test_clipping_is_at_1_by_default_and_can_be_left_out() -> None:
    def moved(**clip: float | None) -> float:
        each = sgd(POLICY, 0, rate=1.0)
        before = tiny.weights(each.model)  # type: ignore[arg-type]  # a policy
        norm = Step([each], providers={}, packing=Packing(), **clip)(
            Round(0, [Part(tiny.groups((3, 4)), Scaled("x", 50.0))])
        )["grad_norm"]
        assert norm > 10
        after = tiny.weights(each.model)  # type: ignore[arg-type]  # a policy
        return torch.stack([(after[n] - before[n]).norm() for n in before]).norm().item() / norm

    whole = moved(clip=None)
    assert whole == pytest.approx(1.0, rel=1e-6)
    assert moved() == pytest.approx(moved(clip=1.0), rel=1e-9)
    assert moved(clip=5.0) == pytest.approx(5 * moved(), rel=1e-5)


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_weights_that_an_update_breaks_are_named_with_the_rows(rows: int) -> None:
    policy = tiny.policy(dtype=torch.float32)
    step = Step(
        [Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values(), lr=3e38))],
        providers={}, packing=Packing(), clip=None,
    )  # fmt: skip
    parts = [Part([g], Scaled("x", 1e4)) for g in tiny.groups(*[(3, 4)] * rows)]
    with pytest.raises(BrokenUpdateError) as error:
        step(Round(0, parts))
    first = next(n for n, p in policy.trainable().items() if not torch.isfinite(p).all())
    assert error.value.what == f"after the update {first} is not finite; the update was not saved"
    names = ", ".join(f"row {i}" for i in range(min(rows, 4)))
    assert error.value.where == (f"{names} and 2 more" if rows == 6 else names)


@pytest.mark.parametrize(
    ("providers", "known"), [({}, "none"), ({"z0": list, "ref_logp": list, "delta": list}, "delta, ref_logp, z0")]
)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(providers: dict[str, type], known: str) -> None:
    class Wanting(Objective):
        requires: tuple[str, ...] = ("weight",)

        def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
            raise NotImplementedError

    step = Step([sgd(POLICY, 0)], providers=providers, packing=Packing())
    with pytest.raises(RecipeError) as error:
        step.measure([Part(tiny.pairs(2), Wanting())])
    assert str(error.value) == (
        f"row 0: Wanting requires the column 'weight': neither data nor provider has it\n  → known providers: {known}"
    )


def test_all_columns_are_provided_in_their_order() -> None:
    """The second is made of groups that have the first."""
    seen: list[tuple[str, bool]] = []

    def provider(name: str, other: str) -> Provider:
        def provide(groups: Sequence[Group]) -> list[Group]:
            seen.append((name, all(g.has(other) for g in groups)))
            return [g.with_columns([{name: 2.0}] * len(g.branches)) for g in groups]

        return provide

    class Both(Objective):
        requires: tuple[str, ...] = ("one", "two")

        def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
            product = batch.branch_columns["one"] * batch.branch_columns["two"]
            return Loss({"mine": Term(product, "branch")})

    step = Step([sgd(POLICY, 0)], providers={"two": provider("two", "one"), "one": provider("one", "two")},
                packing=Packing())  # fmt: skip
    assert step.measure([Part(tiny.pairs(2), Both())]) == {"loss/mine": 4.0, "loss": 4.0}
    assert seen == [("one", False), ("two", True)]


class Saying(Objective):
    """Only looks; the model's outputs are made up by the test."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({"mine": Term(batch.sum(outputs.logp_S), "branch")})


def test_rows_whose_numbers_are_not_finite_are_named_alone() -> None:
    policy = tiny.policy()
    groups = [replace(g, prompt=torch.tensor([60 if i in (1, 3) else 5])) for i, g in enumerate(tiny.pairs(5))]
    groups = [replace(g, branches=tuple(replace(b, tokens=b.tokens.clamp(max=50)) for b in g.branches)) for g in groups]
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[60] = float("inf")
    each = Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values(), lr=0.0))
    with pytest.raises(NonFiniteError) as error:
        Step([each], providers={}, packing=Packing()).measure([Part(groups, Saying())])
    assert str(error.value) == (
        "row 1, row 3: a log-probability is not finite; nothing was updated\n"
        "  → lower the learning rate, or look at these rows"
    )


REMEDY = "lower the learning rate, or look at these rows"


def test_the_words_of_a_loss_and_of_a_gradient_that_are_not_finite() -> None:
    class Broken(Objective):
        def __init__(self, power: float) -> None:
            self.power = power

        def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
            assert outputs.logp_S is not None
            return Loss({"mine": Term((outputs.logp_S - outputs.logp_S) ** self.power, "token")})

    step = Step([sgd(POLICY, 0)], providers={}, packing=Packing())
    with pytest.raises(NonFiniteError) as error:
        step(Round(0, [Part(tiny.groups((3, 4)), Broken(-1.0))]))
    assert str(error.value) == f"row 0: the loss 'mine' is inf\n  → {REMEDY}"
    with pytest.raises(NonFiniteError) as error:
        step(Round(0, [Part(tiny.groups((3, 4)), SFT()), Part(tiny.groups((3, 4)), Broken(0.5))]))
    assert str(error.value) == f"row 0, row 0: the gradient's norm is nan; nothing was updated\n  → {REMEDY}"
    assert all(p.grad is None for p in step.policy.parameters.values())
