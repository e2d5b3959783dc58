"""Providers of the columns that objectives require, for groups that do not carry them yet."""

from __future__ import annotations

from collections.abc import Sequence

from twofold.batch import Branch, Group, Role
from twofold.errors import DataError
from twofold.models.heads import ValueModel
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, Reference, with_reference, with_tokens
from twofold.training.kl_baseline import with_kl_baseline
from twofold.training.step import Provider

OLD = "old_logp"
VALUE = "old_value"
OF_REFERENCE = (COLUMN, "truth_logratio", "truth_length", "z0")
"""Columns that a live reference is asked for."""


def providers(policy: Policy, reference: Reference, packing: Packing) -> dict[str, Provider]:
    """Column name → provider. All of them compute without gradient, in the packs that the step will use."""

    def truth(groups: Sequence[Group]) -> list[Group]:
        return with_truth(groups, policy, reference, packing)

    return {
        COLUMN: lambda groups: with_reference(groups, reference.logps(groups, packing)),
        "truth_logratio": truth,
        "truth_length": truth,
        "z0": lambda groups: with_kl_baseline(groups, policy, reference, packing),
    }


def old_logps(policy: Policy, packing: Packing) -> Provider:
    """A provider of `old_logp` [n]: the policy's log-probabilities of its samples when they are generated."""
    return lambda groups: with_tokens(groups, OLD, policy.logps(groups, packing))


def old_values(critic: ValueModel, packing: Packing) -> Provider:
    """A provider of `old_value` [n]: the value model's estimates for samples when they are generated."""
    return lambda groups: with_tokens(groups, VALUE, critic.values(groups, packing))


def with_truth(groups: Sequence[Group], policy: Policy, reference: Reference, packing: Packing) -> list[Group]:
    """Each branch with two columns of its group's ground truth: `truth_logratio`, Σ log π/π_ref under the current
    policy (nats), and `truth_length` (tokens). The ground truth is not a branch, so it has no gradient."""
    truths: list[Group] = []
    for group in groups:
        if group.truth is None:
            raise DataError("this problem has no ground truth", where=group.name, remedy="add its answer")
        truths.append(Group(group.name, group.prompt, (Branch(group.truth, Role.TRUTH),)))
    mine, theirs = policy.logps(truths, packing), reference.logps(truths, packing)
    result: list[Group] = []
    for group, truth, (a,), (b,) in zip(groups, truths, mine, theirs, strict=True):
        columns = {
            "truth_logratio": (a - b).double().sum().item(),
            "truth_length": float(len(truth.branches[0].tokens)),
        }
        result.append(group.with_columns([columns] * len(group.branches)))
    return result
