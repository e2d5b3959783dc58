"""Columns of a batch: all branches have them or none; and a batch's branches of one role."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support import tiny
from twofold.batch import Batch, Branch, Group, Outputs, Role, with_shared_columns
from twofold.models.packing import Packing
from twofold.objectives import SFT
from twofold.training.optim import AdamW
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable


def branch(role: Role, *tokens: int, **columns: float) -> Branch:
    return Branch(torch.tensor(tokens), role, {}, columns)


def group(name: str, *branches: Branch) -> Group:
    return Group(name, torch.zeros(1, dtype=torch.int64), branches)


def uneven() -> list[Group]:
    """The first row knows its margin, the second does not; both know their level."""
    rows = [group(name, branch(Role.DEMONSTRATION, 1, 2, level=0.0)) for name in ("row 1", "row 2")]
    return [rows[0].with_columns([{"margin": 2.0}]), rows[1]]


def test_a_column_that_some_branches_lack_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the column 'margin' is on row 1 and not on all branches of row 2"):
        Batch.of(uneven())
    with pytest.raises(ValueError, match="the column 'margin' is on row 1 and not on all branches of row 2"):
        Batch.of(uneven()[::-1])


def test_shared_columns_are_those_of_all_branches() -> None:
    made = with_shared_columns(uneven())
    assert [b.columns for g in made for b in g.branches] == [{"level": 0.0}] * 2
    even = uneven()[:1]
    assert with_shared_columns(even)[0] is even[0]
    assert with_shared_columns([]) == []


def test_a_step_on_rows_of_which_some_know_more_is_that_on_what_all_know() -> None:
    """A mixture: no objective here asks for what only some of its rows have."""
    weights = []
    for rows in (uneven(), [g.only_columns(()) for g in uneven()]):
        policy = tiny.policy()
        step = Step([Trainable.of(POLICY, policy, AdamW(), 1)], providers={}, packing=Packing(tokens=1))
        step(Round(0, [Part(rows, SFT())]))
        assert len(policy.logps(rows)) == 2
        weights.append(tiny.weights(policy))
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


def test_the_branches_of_one_role_with_what_is_said_of_them() -> None:
    """Two groups of drafts and a truth: lengths 2, 1, 3 and 1, 2."""
    first = group(
        "a", branch(Role.DRAFT, 1, 2, x=1.0), branch(Role.DRAFT, 3, x=2.0), branch(Role.TRUTH, 4, 5, 6, x=3.0)
    )
    second = group("b", branch(Role.TRUTH, 7, x=4.0), branch(Role.DRAFT, 8, 9, x=5.0))
    batch = Batch.of([first, second])
    said = Outputs(torch.arange(9.0), torch.arange(5.0), statistics={"half": torch.arange(9.0) / 2})
    drafts, of_drafts = batch.only(Role.DRAFT, said)
    assert drafts.names == ("a", "b")
    assert drafts.group_B.tolist() == [0, 0, 1]
    assert drafts.branch_S.tolist() == [0, 0, 1, 2, 2]
    assert drafts.branch_columns["x"].tolist() == [1, 2, 5]
    assert of_drafts.logp_S is not None
    assert of_drafts.logp_S.tolist() == [0, 1, 2, 7, 8]
    assert of_drafts.score_B is not None
    assert of_drafts.score_B.tolist() == [0, 1, 4]
    assert of_drafts.value_S is None
    assert of_drafts.statistics["half"].tolist() == [0, 0.5, 1, 3.5, 4]
    assert drafts.sum(of_drafts.logp_S).tolist() == [1, 2, 15]
    truths, _ = batch.only(Role.TRUTH, said)
    assert drafts.from_groups_of(truths, torch.tensor([30.0, 40.0])).tolist() == [30, 30, 40]
    assert batch.sum_groups(torch.arange(5.0)).tolist() == [3, 7]


def test_a_batch_of_nothing() -> None:
    batch = Batch.of([replace(group("a"), branches=())])
    assert (batch.num_branches, batch.token_columns, batch.branch_columns) == (0, {}, {})
