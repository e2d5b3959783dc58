"""Truncated importance weights by hand: of tokens, of whole drafts, of pairs; and in every loss that takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.objectives import AOT, DPO, GRPO, PPO, RLOO, PDPOGenerator, Reinforce
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.importance import (
    OF_DRAFT,
    OF_TOKEN,
    SAMPLER_LOGP,
    WeightedPairs,
    importance_columns,
    importance_figures,
    weighted_pairs,
)

OLD = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
RATIOS = (0.5, 3.0, 1.5)
SAMPLER = OLD - torch.tensor([math.log(r) for r in RATIOS], dtype=torch.float64)


def test_each_token_and_the_whole_are_cut_off_on_their_own() -> None:
    """Ratios 0.5, 3 and 1.5 under a cap of 2: 0.5, 2 and 1.5; the whole is their product 2.25, cut off to 2."""
    columns = importance_columns(OLD, SAMPLER, 2.0)
    assert columns[OF_DRAFT] == pytest.approx(2.0)
    torch.testing.assert_close(columns[OF_TOKEN], torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64))
    assert torch.equal(columns[SAMPLER_LOGP], SAMPLER)  # type: ignore[arg-type]  # a token column
    wide = importance_columns(OLD, SAMPLER, 10.0)
    assert wide[OF_DRAFT] == pytest.approx(2.25)
    torch.testing.assert_close(wide[OF_TOKEN], torch.tensor(RATIOS, dtype=torch.float64))


def test_ratios_that_no_float_holds_stay_finite() -> None:
    far = importance_columns(torch.zeros(2), torch.tensor([-2000.0, -2000.0]), 2.0)
    assert (far[OF_DRAFT], far[OF_TOKEN].tolist()) == (pytest.approx(2.0), pytest.approx([2.0, 2.0]))  # type: ignore[union-attr]  # a token column
    figures = importance_figures([torch.zeros(2)], [torch.tensor([-2000.0, -2000.0])], 2.0)
    assert all(map(math.isfinite, figures.values()))


def test_figures_by_hand() -> None:
    """Tokens 0.5, 3, 1.5 and 1: mean 1.5, one of four above 2; wholes 2.25 and 1: mean 1.625, one of two."""
    one = torch.tensor([-0.5])
    assert importance_figures([OLD, one], [SAMPLER, one], 2.0) == pytest.approx(
        {"token_ratio": 1.5, "token_capped": 0.25, "draft_ratio": 1.625, "draft_capped": 0.5}
    )


WEIGHTED: list[tuple[Objective, bool]] = [
    (GRPO(beta=0.0), True),
    (GRPO(beta=0.5, average="token"), True),
    (PPO(), True),
    (RLOO(), False),
    (RLOO(clip=0.2), False),
    (Reinforce(), False),
    (PDPOGenerator(), False),
    (PDPOGenerator(form="softplus", baseline="leave_one_out", kl=0.1), False),
]


def drafts(cap: float | None) -> Batch:
    """Two drafts of one prompt, at whose log-probabilities the policy still is when they arrive."""
    branches: list[Branch] = []
    for length, advantage in ((3, 1.0), (2, -0.5)):
        old = OLD[:length]
        columns = {"old_logp": old, "ref_logp": old + 0.3}
        numbers = {"advantage": advantage, "truth_logratio": 4.0}
        made = Branch(torch.arange(length), Role.DRAFT, columns, numbers)
        branches.append(made if cap is None else made.with_columns(importance_columns(old, SAMPLER[:length], cap)))
    return Batch.of([Group("row", torch.tensor([1]), tuple(branches))])


def gradient(objective: Objective, batch: Batch) -> Tensor:
    logp_S = torch.cat([OLD, OLD[:2]]).requires_grad_()
    loss = objective(Outputs(logp_S), batch)
    total = torch.stack([t.weight * t.value.sum() / batch.count(t.unit) for t in loss.terms.values()]).sum()
    return torch.autograd.grad(total, logp_S)[0]


@pytest.mark.parametrize(("objective", "of_tokens"), WEIGHTED, ids=repr)
def test_the_gradient_of_each_token_counts_as_much_as_its_weight(objective: Objective, of_tokens: bool) -> None:
    """By hand: tokens weigh 0.5, 2, 1.5 and 0.5, 2; wholes 2.25 → 2 and 1.5. Without weights nothing changes, and
    another cap is another gradient."""
    plain = gradient(objective, drafts(None))
    weight = [0.5, 2.0, 1.5, 0.5, 2.0] if of_tokens else [2.0, 2.0, 2.0, 1.5, 1.5]
    assert plain.abs().min() > 0
    torch.testing.assert_close(
        gradient(objective, drafts(2.0)), plain * torch.tensor(weight, dtype=torch.float64), rtol=1e-6, atol=1e-12
    )
    assert not torch.allclose(gradient(objective, drafts(3.0)), gradient(objective, drafts(2.0)))


def pair(weights: tuple[float, float] | None) -> Group:
    noise = torch.Generator().manual_seed(0)
    branches: list[Branch] = []
    for i, role in enumerate((Role.CHOSEN, Role.REJECTED)):
        ref = {"ref_logp": torch.randn(2, generator=noise).double()}
        numbers: Mapping[str, Any] = {} if weights is None else {OF_DRAFT: weights[i]}
        branches.append(Branch(torch.arange(2), role, ref, numbers))
    return Group("pair", torch.tensor([1]), tuple(branches))


class PerBranch(Objective):
    """Terms of every unit."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        assert outputs.logp_S is not None
        whole_B = batch.sum(outputs.logp_S)
        return Loss({
            "token": Term(outputs.logp_S, "token"), "branch": Term(whole_B, "branch"),
            "rejected": Term(whole_B[batch.of_role(Role.REJECTED)], "branch:rejected"),
            "group": Term(batch.sum_groups(whole_B), "group"),
        })  # fmt: skip


def test_a_pair_counts_as_both_of_its_drafts() -> None:
    """0.5 · 2 = 1 and 1.5 · 2 = 3, in terms of every unit."""
    pairs = [pair((0.5, 2.0)), pair((1.5, 2.0))]
    batch, logp_S = Batch.of(pairs), -torch.rand(8, dtype=torch.float64)
    for base in (DPO(), PerBranch()):
        plain, made = base(Outputs(logp_S), batch), WeightedPairs(base)(Outputs(logp_S), batch)
        for name, term in made.terms.items():
            entries = len(term.value) // 2
            weight = torch.tensor([1.0] * entries + [3.0] * entries, dtype=torch.float64)
            torch.testing.assert_close(term.value, plain.terms[name].value * weight)
            assert term.unit == plain.terms[name].unit
        assert made.metrics.keys() == plain.metrics.keys()


def test_pairs_are_weighted_where_that_means_something() -> None:
    weighted, plain = [pair((1.0, 2.0))], [pair(None)]
    assert isinstance(weighted_pairs(DPO(), weighted), WeightedPairs)
    assert weighted_pairs(DPO(), weighted).requires == DPO().requires
    assert weighted_pairs(DPO(), plain) == weighted_pairs(DPO(), []) == DPO()
    assert weighted_pairs(AOT(), weighted) == AOT()
