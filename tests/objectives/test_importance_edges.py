"""Importance weights at their bounds, and what an objective keeps of its own under them."""

from __future__ import annotations

import math

import pytest
import torch

from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.objectives import DPO, WPO
from twofold.objectives.base import Objective
from twofold.objectives.importance import (
    OF_DRAFT,
    OF_TOKEN,
    WeightedPairs,
    draft_weighted,
    importance_columns,
    importance_figures,
    token_weighted,
    weighted_pairs,
)


def pair(name: str, weight: float | None) -> Group:
    numbers = {} if weight is None else {OF_DRAFT: weight}
    branches = tuple(
        Branch(torch.arange(2), role, {"ref_logp": torch.zeros(2)}, numbers) for role in (Role.CHOSEN, Role.REJECTED)
    )
    return Group(name, torch.tensor([1]), branches)


def test_a_ratio_at_the_cap_itself_is_not_cut_off() -> None:
    at = torch.tensor([math.log(2.0)], dtype=torch.float64)
    figures = importance_figures([at], [torch.zeros(1, dtype=torch.float64)], 2.0)
    assert (figures["token_capped"], figures["draft_capped"]) == (0.0, 0.0)
    assert importance_figures([at], [torch.zeros(1, dtype=torch.float64)], 1.9)["token_capped"] == 1.0


def test_ratios_of_figures_end_at_700_nats() -> None:
    figures = importance_figures([torch.tensor([900.0])], [torch.zeros(1)], 2.0)
    assert figures["token_ratio"] == figures["draft_ratio"] == pytest.approx(math.exp(700.0), rel=1e-12)


def test_figures_need_as_many_of_one_as_of_the_other() -> None:
    with pytest.raises(ValueError, match="shorter"):
        importance_figures([torch.zeros(1), torch.zeros(1)], [torch.zeros(1)], 2.0)


def test_weights_are_of_float64_and_meet_values_in_theirs() -> None:
    columns = importance_columns(torch.zeros(2), torch.zeros(2), 2.0)
    weight_T = columns[OF_TOKEN]
    assert isinstance(weight_T, torch.Tensor)
    assert weight_T.dtype == torch.float64
    branch = Branch(torch.arange(2), Role.DRAFT, {OF_TOKEN: weight_T * 3}, {OF_DRAFT: 5.0})
    batch = Batch.of([Group("a", torch.tensor([1]), (branch,))])
    token_S, draft_B = token_weighted(torch.ones(2), batch), draft_weighted(torch.ones(1), batch)
    assert (token_S.tolist(), token_S.dtype) == ([3.0, 3.0], torch.float32)
    assert (draft_B.tolist(), draft_B.dtype) == ([5.0], torch.float32)


def test_pairs_are_weighted_only_if_each_has_weights() -> None:
    assert weighted_pairs(DPO(), [pair("a", 1.0), pair("b", None)]) == DPO()
    assert weighted_pairs(DPO(), [pair("a", 1.0), pair("b", 2.0)]) == WeightedPairs(DPO())


def test_an_objective_under_weights_keeps_its_traits_but_not_the_margins_gradient() -> None:
    made = WeightedPairs(DPO())
    assert (made.requires, made.remedy) == (DPO().requires, DPO().remedy)
    assert made.remedy != Objective.remedy
    assert WeightedPairs(WPO()).statistics == WPO().statistics != ()
    assert (DPO().margin_weighted, WeightedPairs(DPO()).margin_weighted) == (True, False)


def test_values_of_pairs_keep_their_precision_and_metrics_stay_as_they_are() -> None:
    batch = Batch.of([pair("a", 2.0)])
    said = Outputs(torch.tensor([-1.0, -1.0, -2.0, -2.0]))
    plain, made = DPO()(said, batch), WeightedPairs(DPO())(said, batch)
    assert made.terms["dpo"].value.dtype == torch.float32
    assert made.terms["dpo"].value.tolist() == (plain.terms["dpo"].value * 4).tolist()
    assert made.metrics["margin"].value.tolist() == plain.metrics["margin"].value.tolist()
