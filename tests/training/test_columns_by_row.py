"""Columns made over a whole step: each row with its own numbers, and none where numbers are missing or too many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing
from twofold.objectives.beta_dpo import BetaDPO
from twofold.training.batch_beta import BatchBeta
from twofold.training.bco_shift import BCOShift, half_way, moved
from twofold.training.column_providers import OLD, VALUE, old_logps, old_values, with_truth
from twofold.training.kl_baseline import clamped_mean, mismatched, with_kl_baseline

Rows = list[list[list[float]]]
PACKING = Packing()


class Policy:
    """Log-probabilities from a table, [row][branch][token]; it notes what it is called with."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.calls = rows, list[tuple[Sequence[Group], Packing]]()

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        self.calls.append((groups, packing))
        return [[torch.tensor(branch) for branch in row] for row in self.rows]

    values = logps


def branch(role: Role, reference: list[float], **columns: float) -> Branch:
    ref: dict[str, Any] = {"ref_logp": torch.tensor(reference, dtype=torch.float64)}
    return Branch(torch.arange(len(reference)), role, ref, columns)


def pair(weight: float | None = None) -> Group:
    """The reference has −1 and −3 of chosen, −2 of rejected."""
    columns = {} if weight is None else {"weight": weight}
    chosen, rejected = (
        branch(Role.CHOSEN, [-1.0, -3.0], **columns), branch(Role.REJECTED, [-2.0], **columns),
    )  # fmt: skip
    return Group("p", torch.tensor([5]), (chosen, rejected))


def beta(rows: Rows) -> tuple[BatchBeta, Any]:
    policy: Any = Policy(rows)
    return BatchBeta(policy, PACKING, BetaDPO(beta=0.5, alpha=2.0, momentum=0.75)), policy


def test_a_batch_has_one_beta_of_its_weighted_margins() -> None:
    """Margins of log-ratios are 3 − 1 = 2 and −2 − 0 = −2; of weights 3 and 1 their mean is 1, times β ½."""
    keeper, policy = beta([[[0.0, -1.0], [-1.0]], [[-3.0, -3.0], [-2.0]]])
    groups = [pair(3.0), pair(1.0)]
    with torch.no_grad():
        rows = keeper(groups)
    assert [[b.columns["batch_beta"] for b in g.branches] for g in rows] == [[0.5 * (1 + 2 * 0.5)] * 2] * 2
    assert (keeper.mean, policy.calls) == (0.0, [(groups, PACKING)])
    rows = keeper(groups)
    assert keeper.mean == pytest.approx(0.25 * 0.5)
    assert rows[0].branches[0].columns["batch_beta"] == pytest.approx(0.5 * (1 + 2 * (0.5 - 0.125)))
    assert (keeper.state_dict(), keeper.tensors()) == ({"mean": keeper.mean}, {})


def test_rows_of_no_weight_have_no_margin() -> None:
    keeper, _ = beta([[[0.0, -1.0], [-1.0]]])
    rows = keeper([pair(0.0)])
    assert (keeper.mean, rows[0].branches[1].columns["batch_beta"]) == (0.0, 0.5)


def shift(rows: Rows) -> BCOShift:
    policy: Any = Policy(rows)
    return BCOShift(policy, PACKING, decay=0.75)


def rated(role: Role, **columns: float) -> Group:
    return Group("r", torch.tensor([5]), (branch(role, [-1.0, -1.0], **columns),))


def test_a_shift_is_half_way_between_weighted_means() -> None:
    """Of log-ratios 2 (weight 3), −1 (weight 1) and, undesirable, 0.5, which is desirable by a quarter."""
    groups = [
        rated(Role.DESIRABLE, weight=3.0),
        rated(Role.DESIRABLE, weight=1.0),
        rated(Role.UNDESIRABLE, probability=0.75),
    ]
    keeper = shift([[[0.0, 0.0]], [[-1.0, -2.0]], [[-1.0, -0.5]]])
    good, bad = (3 * 2 - 1 + 0.25 * 0.5) / 4.25, 0.5
    with torch.no_grad():
        rows = keeper(groups)
    assert keeper.means == {}
    assert [g.branches[0].columns["delta"] for g in rows] == [pytest.approx((good + bad) / 2)] * 3
    keeper(groups)
    assert keeper.means == {"desirable": pytest.approx(good), "undesirable": pytest.approx(bad)}
    keeper.restore({}, {"desirable": 1.0})
    keeper(groups)
    assert keeper.means == {"desirable": pytest.approx(good + 0.75 * (1 - good)), "undesirable": pytest.approx(bad)}


def test_running_means_keep_labels_that_a_step_has_none_of() -> None:
    assert moved({"a": 1.0, "b": 2.0}, {"a": 3.0, "c": 5.0}, 0.75) == {"a": 1.5, "b": 2.0, "c": 5.0}
    assert (half_way({}), half_way({"desirable": 3.0}), half_way({"undesirable": -1.0})) == (0.0, 1.5, -0.5)


@pytest.mark.parametrize("which", ["beta", "shift"])
@pytest.mark.parametrize("rows", [[], [[[0.0, 0.0], [0.0]]], [[[0.0, 0.0], [0.0]]] * 3])
def test_every_row_has_numbers_of_its_own(which: str, rows: Rows) -> None:
    keeper: Callable[[Sequence[Group]], list[Group]] = beta(rows)[0] if which == "beta" else shift(rows)
    with pytest.raises(ValueError, match="zip"):
        keeper([pair(), pair()])


@pytest.mark.parametrize("which", ["beta", "shift"])
def test_every_branch_has_numbers_of_its_own(which: str) -> None:
    rows = [[[0.0, 0.0], [0.0], [0.0]]]
    keeper: Callable[[Sequence[Group]], list[Group]] = beta(rows)[0] if which == "beta" else shift(rows)
    with pytest.raises(ValueError, match="zip"):
        keeper([pair()])


def problem(*drafts: int, truth: int = 2) -> Group:
    branches = tuple(Branch(torch.arange(n), Role.DRAFT) for n in drafts)
    return Group("q", torch.tensor([5]), branches, torch.arange(truth))


def test_every_branch_has_the_figures_of_its_own_truth() -> None:
    mine, theirs = Policy([[[-1.0, -1.0]], [[-2.0, 0.0, 0.0]]]), Policy([[[-2.0, -2.5]], [[-1.0, 0.0, 0.0]]])
    groups = [problem(1, 4), problem(3, truth=3)]
    rows = with_truth(groups, mine, theirs, PACKING)  # type: ignore[arg-type]  # as policies
    assert [[dict(b.columns) for b in g.branches] for g in rows] == [
        [{"truth_logratio": 2.5, "truth_length": 2.0}] * 2, [{"truth_logratio": -1.0, "truth_length": 3.0}],
    ]  # fmt: skip
    (requested, packing), *_ = mine.calls
    assert [(g.name, [(b.role, len(b.tokens)) for b in g.branches]) for g in requested] == [
        ("q", [(Role.TRUTH, 2)]), ("q", [(Role.TRUTH, 3)]),
    ]  # fmt: skip
    assert (packing, theirs.calls) == (PACKING, mine.calls)


@pytest.mark.parametrize(("mine", "theirs"), [(1, 2), (2, 1), (3, 3), (1, 1)])
def test_truths_have_numbers_of_both_models(mine: int, theirs: int) -> None:
    one = [[[-1.0, -1.0]]]
    with pytest.raises(ValueError, match="zip"):
        with_truth([problem(1), problem(1)], Policy(one * mine), Policy(one * theirs), PACKING)  # type: ignore[arg-type]


def single(prompt: list[int], length: int, weight: float | None = None) -> Group:
    columns = {} if weight is None else {"weight": weight}
    return Group(f"{prompt}", torch.tensor(prompt), (branch(Role.DESIRABLE, [0.0] * length, **columns),))


def test_a_baseline_is_the_weighted_mean_of_mismatched_rows() -> None:
    mine, theirs = Policy([[[1.0]], [[3.0, 2.0]]]), Policy([[[0.5]], [[1.0, 1.0]]])
    groups = [single([1, 2], 2, 3.0), single([3], 1, 1.0)]
    rows = with_kl_baseline(groups, mine, theirs, PACKING)  # type: ignore[arg-type]  # as policies
    assert [g.branches[0].columns["z0"] for g in rows] == [pytest.approx((3 * 0.5 + 3) / 4)] * 2
    (requested, packing), *_ = mine.calls
    assert [(g.prompt.tolist(), len(g.branches[0].tokens)) for g in requested] == [([1, 2], 1), ([3], 2)]
    assert all(not g.branches[0].columns and not g.branches[0].token_columns for g in requested)
    assert (packing, theirs.calls[0][1]) == (PACKING, PACKING)
    with pytest.raises(ValueError, match="zip"):
        with_kl_baseline(groups, mine, Policy([[[0.5]]] * 3), PACKING)  # type: ignore[arg-type]  # as above
    with pytest.raises(ValueError, match="zip"):
        clamped_mean([1.0, 2.0], [1.0])
    assert [clamped_mean([1.0, -2.0]), clamped_mean([3.0, -2.0]), clamped_mean([3.0], [0.0])] == [0.0, 0.5, 0.0]


def test_prompts_are_cut_from_the_left_to_the_longest_row() -> None:
    """The longest of the step has 4 tokens; a prompt of 3 before a completion of 3 loses its first two."""
    groups = [single([1, 2, 3], 1), single([4], 3)]
    assert [g.prompt.tolist() for g in mismatched(groups)] == [[3], [4]]
    same = [single([1], 1), single([1], 2), single([2], 3)]
    assert [len(g.branches[0].tokens) for g in mismatched(same)] == [3, 3, 1]
    assert [len(g.branches[0].tokens) for g in mismatched([single([1], 1), single([1], 2)])] == [2, 1]


def test_what_samples_had_when_they_were_made_is_stored() -> None:
    model: Any = Policy([[[-1.0], [-2.0, math.pi]]])
    group = problem(1, 2)
    for make, name in ((old_logps, OLD), (old_values, VALUE)):
        (row,) = make(model, PACKING)([group])
        assert [b.token_columns[name].tolist() for b in row.branches] == [
            [-1.0], [-2.0, pytest.approx(math.pi)],
        ]  # fmt: skip
    assert (OLD, VALUE) == ("old_logp", "old_value")
    assert [packing for _, packing in model.calls] == [PACKING] * 2


WIDE = [2.0**24, 1.0]
"""Their sum in single precision is 2²⁴: the 1 is lost."""


def test_sums_over_tokens_are_of_double_precision() -> None:
    none, one = Policy([[[0.0, 0.0]]]), Policy([[WIDE]])
    (row,) = with_truth([problem(1)], one, none, PACKING)  # type: ignore[arg-type]  # as policies
    assert row.branches[0].columns["truth_logratio"] == 2**24 + 1
    wide, zero = Policy([[WIDE]] * 2), Policy([[[0.0, 0.0]]] * 2)
    rows = with_kl_baseline([single([1], 2), single([2], 2)], wide, zero, PACKING)  # type: ignore[arg-type]  # as above
    assert rows[0].branches[0].columns["z0"] == 2**24 + 1
    keeper = shift([[[2.0**24 - 1, 0.0]]])
    keeper([rated(Role.DESIRABLE)])
    assert keeper.means == {"desirable": 2**24 + 1}
    margin, _ = beta([[[2.0**24 - 1, -2.0], [-2.0]]])
    margin([pair()])
    assert margin.mean == 0.25 * 0.5 * (2**24 + 1)
