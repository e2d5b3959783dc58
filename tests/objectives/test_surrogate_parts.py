"""The parts of policy-gradient losses by hand: clips, averages, advantages, what is told of drafts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.objectives.ppo import PPO, ValueRegression, value_loss
from twofold.objectives.surrogate import (
    averaged,
    clipped,
    moves,
    rollout_metrics,
    stopped,
    token_advantages,
)

TWO = torch.tensor([1.0, 2.0, 6.0])


def drafts(*, token: bool = False, old: bool = False, ref: bool = False) -> Batch:
    """Drafts of one token and of two, of advantage 3 and −1."""
    branches: list[Branch] = []
    for length, advantage in ((1, 3.0), (2, -1.0)):
        columns: dict[str, torch.Tensor] = {}
        if token:
            columns["advantage"] = torch.arange(length).double() + 10 * length
        if old:
            columns["old_logp"] = torch.full((length,), -1.0, dtype=torch.float64)
        if ref:
            columns["ref_logp"] = torch.full((length,), -4.0, dtype=torch.float64)
        branches.append(Branch(torch.arange(length), Role.DRAFT, columns, {} if token else {"advantage": advantage}))
    return Batch.of([Group("row", torch.tensor([1]), tuple(branches))])


def test_the_clip_by_hand() -> None:
    ratio = torch.tensor([0.25, 0.5, 1.0, 1.5, 2.0])
    up, down = torch.ones(5), -torch.ones(5)
    assert clipped(up, ratio, 0.5).tolist() == [0.25, 0.5, 1.0, 1.5, 1.5]
    assert clipped(down, ratio, 0.5).tolist() == [-0.5, -0.5, -1.0, -1.5, -2.0]
    assert clipped(up, ratio, 0.5, 0.75).tolist() == [0.25, 0.5, 1.0, 1.5, 1.75]
    assert clipped(up, ratio, 0.5, 0.0).tolist() == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_a_ratio_at_the_end_of_the_clip_is_not_stopped() -> None:
    ratio = torch.tensor([0.25, 0.5, 1.5, 2.0])
    assert stopped(torch.ones(4), ratio, 0.5).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert stopped(-torch.ones(4), ratio, 0.5).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert stopped(torch.ones(4), ratio, 0.5, 1.0).tolist() == [0.0, 0.0, 0.0, 0.0]
    assert stopped(torch.zeros(4), ratio, 0.5).dtype == torch.float32
    leaf = torch.tensor([2.0], requires_grad=True)
    assert not stopped(torch.ones(1), leaf, 0.5).requires_grad


@pytest.mark.parametrize(
    ("average", "length", "unit", "value"),
    [
        ("token", None, "token", [1.0, 2.0, 6.0]),
        ("completion", None, "branch", [1.0, 4.0]),
        ("constant", 4, "branch", [0.25, 2.0]),
        ("constant", None, "branch", [1.0, 8.0]),
    ],
)
def test_averages_by_hand(average: Any, length: int | None, unit: str, value: list[float]) -> None:
    term = averaged(TWO, drafts(), average, length)
    assert (term.value.tolist(), term.unit, term.weight, term.spread) == (value, unit, 1.0, False)
    assert averaged(TWO, drafts(), average, length, 0.25).weight == 0.25


def test_a_tokens_advantage_is_its_own_or_its_drafts() -> None:
    assert token_advantages(drafts(), torch.float32).tolist() == [3.0, -1.0, -1.0]
    own = token_advantages(drafts(token=True), torch.float32)
    assert (own.tolist(), own.dtype) == ([10.0, 20.0, 21.0], torch.float32)


def test_moves_are_since_sampling() -> None:
    moved = moves(Outputs(torch.tensor([-1.0, -0.5, -3.0])), drafts(old=True))
    assert (moved.tolist(), moved.dtype) == ([0.0, 0.5, -2.0], torch.float32)


def test_what_is_told_of_drafts_by_hand() -> None:
    said = Outputs(torch.tensor([-1.0, -0.5, -3.0], requires_grad=True))
    told = rollout_metrics(said, drafts(old=True, ref=True))
    assert {name: (term.value.tolist(), term.unit, term.spread) for name, term in told.items()} == {
        "draft_logp": ([-1.0, -3.5], "branch", False),
        "draft_length": ([1.0, 2.0], "branch", False),
        "advantage": ([3.0, -1.0], "branch", True),
        "approx_kl": ([0.0, 0.125, 2.0], "token", False),
        "draft_kl": ([3.0, 4.5], "branch", False),
    }
    assert not any(term.value.requires_grad for term in told.values())
    few = rollout_metrics(said, drafts(token=True))
    assert {*few} == {"draft_logp", "draft_length", "advantage"}
    assert (few["advantage"].value.tolist(), few["advantage"].unit, few["advantage"].spread) == (
        [10.0, 20.0, 21.0],
        "token",
        True,
    )


def test_the_loss_of_a_value_model_by_hand() -> None:
    """From 0 to 1 with a clip of ½: towards a return of 2 the clipped value is further off, towards −1 it is not."""
    value, old = torch.tensor([1.0, 1.0, 0.25, -1.0]), torch.zeros(4)
    returns = torch.tensor([2.0, -1.0, 1.0, -3.0])
    assert value_loss(value, old, returns, 0.5).tolist() == [1.125, 2.0, 0.28125, 3.125]


def test_a_value_is_clipped_only_where_it_costs_more() -> None:
    columns = {"old_value": torch.zeros(3), "return": torch.tensor([2.0, -1.0, 1.0])}
    branch = Branch(torch.arange(3), Role.DRAFT, columns)
    batch = Batch.of([Group("row", torch.tensor([1]), (branch,))])
    said = Outputs(value_S=torch.tensor([1.0, 1.0, 0.25]))
    loss = ValueRegression(0.5)(said, batch)
    assert (loss.terms["value"].value.tolist(), loss.terms["value"].unit) == ([1.125, 2.0, 0.28125], "token")
    assert (loss.metrics["value_clipped"].value.tolist(), loss.metrics["value_clipped"].unit) == (
        [1.0, 0.0, 0.0],
        "token",
    )
    plain = ValueRegression(None)(said, batch)
    assert (plain.terms["value"].value.tolist(), plain.metrics) == ([0.5, 2.0, 0.28125], {})


def test_ppos_traits_follow_its_settings() -> None:
    assert (PPO().comparison, PPO().statistics) == ((None, "rollout"), ())
    made = PPO(baseline="group", scale="none", entropy=0.5)
    assert (made.comparison, made.statistics) == (("group", "none"), ("entropy",))
    with pytest.raises(ValueError, match=r"^clip must be in \(0, 1\)$"):
        PPO(clip=1.0)
    with pytest.raises(ValueError, match=r"^length goes with average constant$"):
        PPO(length=3)


def test_an_entropy_bonus_is_averaged_as_the_loss_is() -> None:
    said = Outputs(torch.full((3,), -1.0), statistics={"entropy": torch.tensor([1.0, 2.0, 6.0])})
    batch = drafts(old=True)
    of_tokens = PPO(entropy=0.5)(said, batch)
    assert (of_tokens.terms["entropy_bonus"].value.tolist(), of_tokens.terms["entropy_bonus"].weight) == (
        [-1.0, -2.0, -6.0],
        0.5,
    )
    assert (of_tokens.metrics["entropy"].value.tolist(), of_tokens.metrics["entropy"].unit) == (
        [1.0, 2.0, 6.0],
        "token",
    )
    constant = PPO(entropy=0.5, average="constant", length=4)(said, batch).terms
    assert (constant["entropy_bonus"].value.tolist(), constant["entropy_bonus"].unit) == ([-0.25, -2.0], "branch")
    assert constant["ppo"].value.tolist() == [-0.75, 0.5]
