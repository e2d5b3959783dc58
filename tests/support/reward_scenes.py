"""Rankings and pairs by their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from support.scenes import Scene, branch, group, heard, leaf
from twofold.batch import Batch, Role
from twofold.objectives.base import Loss, Objective


def scored(*rows: Sequence[float], levels: Sequence[int] = (), margins: Sequence[float] = ()) -> Scene:
    """Rankings by their completions' scores, best first unless `levels` say otherwise."""
    groups = []
    for i, row in enumerate(rows):
        columns = [{"level": float(level)} for level in (levels or range(len(row)))]
        extra = {"margin": margins[i]} if margins else {}
        made = (branch(Role.RANKED, torch.zeros(1), {**c, **extra}) for c in columns)
        groups.append(group(f"{i}", *made))
    return groups, [[torch.tensor([x], dtype=torch.float64) for x in row] for row in rows]


def pairs(case: dict[str, Any], margins: Sequence[float] = ()) -> Scene:
    return scored(*zip(case["chosen"], case["rejected"], strict=True), margins=margins)


def evaluate(objective: Objective, scene: Scene) -> Loss:
    return objective(heard(objective, leaf(scene[1])), Batch.of(scene[0]))
