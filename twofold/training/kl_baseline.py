"""KTO's point of reference z₀ (Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1): a column, held fixed.

It couples all rows of a step, so it is made over the whole step, before any packing: no packing can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from twofold.batch import Group
from twofold.errors import RecipeError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import Reference

COLUMN = "z0"


def with_kl_baseline(groups: Sequence[Group], policy: Policy, reference: Reference, packing: Packing) -> list[Group]:
    """Every branch with `z0`: max(0, mean over mismatched rows of Σ log π/π_ref), the policy as it is now; nats. A row
    counts by its weight."""
    rows = mismatched(groups)
    mine, theirs = policy.logps(rows, packing), reference.logps(rows, packing)
    ratios = [(a - b).double().sum().item() for (a,), (b,) in zip(mine, theirs, strict=True)]
    z0 = clamped_mean(ratios, [1.0 if g.weight is None else g.weight for g in groups])
    return [g.with_columns([{COLUMN: z0}] * len(g.branches)) for g in groups]


def clamped_mean(logratios: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """max(0, mean): a KL divergence is never negative, its estimate may be. 0 where nothing counts."""
    weights = [1.0] * len(logratios) if weights is None else weights
    total = sum(weights)
    return max(0.0, sum(w * x for w, x in zip(weights, logratios, strict=True)) / total) if total else 0.0


def mismatched(groups: Sequence[Group]) -> list[Group]:
    """Each row's prompt with the completion of the next row that has another prompt (the next at all, where none has).

    A prompt is cut from the left where its new row would be longer than the longest of the step: models end somewhere.
    Raises RecipeError for a single row, whose mismatch would be itself.
    """
    if len(groups) < 2:
        raise RecipeError(
            "the KL estimate of KTO pairs each prompt with another row's completion, and there is one row only",
            where=groups[0].name,
            remedy="raise training.batch_size to 2 or more, and hold out as many rows",
        )
    longest = max(len(g.prompt) + len(b.tokens) for g in groups for b in g.branches)
    rows: list[Group] = []
    for i, group in enumerate(groups):
        (branch,) = _partner(groups, i).branches
        prompt = group.prompt[-(longest - len(branch.tokens)) :]
        rows.append(Group(group.name, prompt, (replace(branch, token_columns={}, columns={}),)))
    return rows


def _partner(groups: Sequence[Group], row: int) -> Group:
    following = (groups[(row + ahead) % len(groups)] for ahead in range(1, len(groups)))
    other = (g for g in following if not torch.equal(g.prompt, groups[row].prompt))
    return next(other, groups[(row + 1) % len(groups)])
