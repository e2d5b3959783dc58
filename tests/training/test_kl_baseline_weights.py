"""KTO's point of reference with weights, by hand; BCO's means with weights and doubts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing
from twofold.training.bco_shift import BCOShift
from twofold.training.kl_baseline import clamped_mean, with_kl_baseline


@pytest.mark.parametrize(
    ("ratios", "weights", "want"),
    [([1.0, 4.0], [3.0, 1.0], 1.75), ([1.0, 4.0], [0.0, 1.0], 4.0), ([1.0], [0.0], 0.0),
     ([-4.0, 1.0], [1.0, 5.0], 1 / 6), ([-4.0, 1.0], [1.0, 3.0], 0.0), ([], None, 0.0)],
)  # fmt: skip
def test_a_mean_by_weights(ratios: list[float], weights: list[float] | None, want: float) -> None:
    assert clamped_mean(ratios, weights) == pytest.approx(want)


class Fixed:
    """Gives each completion the log-probability of its first token's number, in every token."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def logps(self, groups: Any, packing: Packing) -> list[list[torch.Tensor]]:
        return [[b.tokens.double() * self.scale for b in g.branches] for g in groups]


def test_rows_of_a_step_count_by_their_weights() -> None:
    """Each prompt is met by the other row's completion: of 4 and of 1, with weights 1 and 3."""
    groups = [
        Group("a", torch.tensor([7]), (Branch(torch.tensor([1]), Role.DESIRABLE),)),
        Group("b", torch.tensor([8]), (Branch(torch.tensor([4]), Role.DESIRABLE),)),
    ]
    policy: Any = Fixed(2.0)
    made = with_kl_baseline(groups, policy, Fixed(1.0), Packing())
    assert [b.columns for g in made for b in g.branches] == [{"z0": 2.5}] * 2
    heavy = [groups[0], groups[1].with_columns([{"weight": 3.0}])]
    assert with_kl_baseline(heavy, policy, Fixed(1.0), Packing())[0].branches[0].columns["z0"] == (4 + 3 * 1) / 4


def test_a_label_in_doubt_counts_for_both_labels() -> None:
    """Ratios 1 (weight 2, three quarters desirable) and 4 (undesirable): desirable 1; undesirable (½·1 + 4)/1.5."""
    rows = [
        Group("a", torch.tensor([7]), (Branch(torch.tensor([1]), Role.DESIRABLE, {"ref_logp": torch.zeros(1)},
                                              {"weight": 2.0, "probability": 0.75}),)),
        Group("b", torch.tensor([8]), (Branch(torch.tensor([4]), Role.UNDESIRABLE, {"ref_logp": torch.zeros(1)}),)),
    ]  # fmt: skip
    policy: Any = Fixed(1.0)
    shift = BCOShift(policy, Packing(), decay=0.5)
    assert shift._means(rows) == pytest.approx({"desirable": 1.0, "undesirable": 3.0})
    (weightless,) = [replace(rows[0], branches=(rows[0].branches[0].with_columns({"weight": 0.0}),))]
    assert shift._means([weightless]) == {}
