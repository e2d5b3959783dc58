"""Columns that are made for groups: each by an independent reading of the model, and none where it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from support import tiny
from support.reward_heads import folder
from twofold.batch import Branch, Group, Role
from twofold.errors import DataError
from twofold.models.heads import value_model_of
from twofold.models.load import ModelSettings, load_policy
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.training.column_providers import OF_REFERENCE, old_logps, old_values, providers, with_truth

PACKING = Packing()


def drafts(truths: int = 2) -> list[Group]:
    """Two prompts with two drafts each; the first `truths` have a ground truth, of 1 and of 2 tokens."""
    made = [
        replace(g, branches=tuple(Branch(b.tokens, Role.DRAFT) for b in g.branches))
        for g in tiny.groups((3, 2, 4), (2, 3, 1))
    ]
    return [replace(g, truth=torch.arange(5, 6 + i) if i < truths else None) for i, g in enumerate(made)]


def test_the_truths_reward_and_length_are_those_of_its_own_row() -> None:
    policy, reference = tiny.policy(0), live_reference(tiny.policy(1))
    groups = drafts()
    found = with_truth(groups, policy, reference, PACKING)
    for number, (group, told) in enumerate(zip(groups, found, strict=True)):
        assert group.truth is not None
        row = Group("alone", group.prompt, (Branch(group.truth, Role.TRUTH),))
        mine, theirs = (tiny.alone(tiny.policy(seed).model, row)[0].sum().item() for seed in (0, 1))
        for branch in told.branches:
            assert branch.columns == {
                "truth_logratio": pytest.approx(mine - theirs, rel=1e-9), "truth_length": number + 1.0,
            }  # fmt: skip
        assert [b.role for b in told.branches] == [Role.DRAFT] * 2
    assert abs(found[0].branches[0].columns["truth_logratio"]) > 0.01


def test_a_problem_without_a_truth_is_named() -> None:
    policy = tiny.policy()
    with pytest.raises(DataError) as error:
        with_truth(drafts(1), policy, live_reference(policy), PACKING)
    assert str(error.value) == "row 1: this problem has no ground truth\n  → add its answer"


class Short:
    """A reference of somebody's own that leaves out the last row."""

    def __init__(self, policy: Policy) -> None:
        self.whole = live_reference(policy)

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        return self.whole.logps(groups, packing)[:-1]


@pytest.mark.parametrize("column", OF_REFERENCE)
def test_a_reference_that_answers_too_little_is_noticed(column: str) -> None:
    policy = tiny.policy()
    single = [replace(g, branches=g.branches[:1]) for g in drafts()]
    with pytest.raises(ValueError, match="zip"):
        providers(policy, Short(policy), PACKING)[column](single)


def test_every_column_of_a_reference_has_its_provider() -> None:
    policy, reference = tiny.policy(0), live_reference(tiny.policy(1))
    known = providers(policy, reference, PACKING)
    assert tuple(known) == OF_REFERENCE == ("ref_logp", "truth_logratio", "truth_length", "z0")
    groups = drafts()
    for name in ("truth_logratio", "truth_length"):
        assert [b.columns for g in known[name](groups) for b in g.branches] == [
            b.columns for g in with_truth(groups, policy, reference, PACKING) for b in g.branches
        ]
    for group, told in zip(groups, known["ref_logp"](groups), strict=True):
        for branch, want in zip(told.branches, tiny.alone(tiny.policy(1).model, group), strict=True):
            torch.testing.assert_close(branch.token_columns["ref_logp"], want)
            assert branch.columns == {}
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.mul_(3.0)
    single = [replace(g, branches=g.branches[:1]) for g in groups]
    for told in known["z0"](single):
        assert told.branches[0].columns["z0"] >= 0
        assert told.branches[0].token_columns == {}


def test_what_a_policy_says_of_its_drafts_as_it_is() -> None:
    policy, groups = tiny.policy(0), drafts()
    for group, told in zip(groups, old_logps(policy, PACKING)(groups), strict=True):
        for branch, want in zip(told.branches, tiny.alone(policy.model, group), strict=True):
            assert set(branch.token_columns) == {"old_logp"}
            torch.testing.assert_close(branch.token_columns["old_logp"], want.detach())


def test_what_a_value_model_expects_of_drafts_as_it_is(tmp_path: Path) -> None:
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64")
    policy, loaded = load_policy(settings, seed=1)
    critic, _ = value_model_of(policy, loaded, settings)
    with torch.no_grad():
        for parameter in critic.trainable().values():
            parameter.add_(0.05)
    groups = drafts()
    made = old_values(critic, Packing(groups=1))(groups)
    want = critic.values(groups, PACKING)
    for told, row in zip(made, want, strict=True):
        for branch, value in zip(told.branches, row, strict=True):
            assert set(branch.token_columns) == {"old_value"}
            torch.testing.assert_close(branch.token_columns["old_value"], value)
            assert value.shape == branch.tokens.shape
            assert value.abs().max() > 0
