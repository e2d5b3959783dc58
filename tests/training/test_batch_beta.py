"""β-DPO's β of a batch: by hand, by the weights of rows, with its floor, and what only reads it."""

from __future__ import annotations

import pytest
import torch

from support import tiny
from twofold.batch import Group
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference, with_reference
from twofold.objectives import BetaDPO
from twofold.training.batch_beta import BatchBeta, moved


def moved_pairs(policy: Policy, number: int) -> tuple[list[Group], list[float]]:
    """Pairs with the reference of `policy`, which then moves; and the difference of log-ratios of each."""
    groups = with_reference(
        tiny.pairs(number, seed=2), live_reference(policy).logps(tiny.pairs(number, seed=2), Packing())
    )
    with torch.no_grad():
        for p in policy.trainable().values():
            p.add_(0.02)
    said = policy.logps(groups, Packing())
    refs = [[b.token_columns["ref_logp"] for b in g.branches] for g in groups]
    ratios = [[(x - ref).sum().item() for x, ref in zip(*row, strict=True)] for row in zip(said, refs, strict=True)]
    return groups, [chosen - rejected for chosen, rejected in ratios]


def test_the_beta_of_a_batch_by_hand() -> None:
    """Mean difference h of a step, β = 0.5, α = 1, momentum ½: M = 0.5·h, M₀ = 0.5·0 + 0.5·M, so
    β_batch = 0.5·(1 + M − M/2) = 0.5 + h/8; then the same step again has M₀ = ¾·M and β_batch = 0.5 + h/16."""
    policy = tiny.policy()
    groups, differences = moved_pairs(policy, 3)
    h = sum(differences) / 3
    column = BatchBeta(policy, Packing(), BetaDPO(beta=0.5, alpha=1.0, momentum=0.5, least=1e-9))
    for expected in (0.5 + h / 8, 0.5 + h / 16):
        assert [b.columns["batch_beta"] for g in column(groups) for b in g.branches] == pytest.approx([expected] * 6)
    with torch.no_grad():
        before = column.mean
        assert column(groups)[0].branches[0].columns["batch_beta"] == pytest.approx(0.5 + h / 16)
        assert column.mean == before, "what only measures does not move it"
    again = BatchBeta(policy, Packing(), BetaDPO())
    again.restore({}, column.state_dict())
    assert again.mean == before == pytest.approx(0.375 * h)
    assert moved(2.0, 4.0, 0.75) == 2.5
    assert column.state_dict() == {"mean": before}
    assert column.tensors() == {}
    assert column.name == "batch-beta"


def test_rows_count_by_their_weights() -> None:
    policy = tiny.policy()
    groups, (first, second) = moved_pairs(policy, 2)
    column = BatchBeta(policy, Packing(), BetaDPO(beta=0.5, alpha=1.0, momentum=0.5, least=1e-9))
    for weights, h in (((3.0, 1.0), (3 * first + second) / 4), ((3.0, None), (3 * first + second) / 4),
                       ((0.0, 2.0), second), ((0.0, 0.0), 0.0)):  # fmt: skip
        column.mean = 0.0
        columns = [{} if weight is None else {"weight": weight} for weight in weights]
        weighted = [group.with_columns([own] * 2) for group, own in zip(groups, columns, strict=True)]
        (beta,) = {b.columns["batch_beta"] for g in column(weighted) for b in g.branches}
        assert beta == pytest.approx(0.5 + h / 8)
        assert column.mean == pytest.approx(h / 4)


def test_beta_has_a_floor() -> None:
    policy = tiny.policy()
    groups, _ = moved_pairs(policy, 2)
    low = BatchBeta(policy, Packing(), BetaDPO(alpha=1000.0, least=0.05))
    low.mean = 10.0
    assert low(groups)[0].branches[0].columns["batch_beta"] == 0.05
