"""What the whole comparison of a task costs, from the cells that are finished."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from experiments.pretrained.methods import METHODS
from experiments.pretrained.protocol import FINALIST_SEEDS

FINALISTS = 4
TRIALS = 2.0
"""Whole trainings that four points come to with three rungs: two stop at a quarter, one at half."""
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]


def plan_table(cells: Cells) -> list[tuple[str, ...]]:
    """Trainings and CPU hours by stage. A method without a finished cell costs what the mean of the others does."""
    costs = {
        name: fmean((r["train_cpu"] + r["measure_cpu"]) / 3600 for r in runs.values())
        for name, runs in cells.items()
        if name in METHODS
    }
    head = ("stage", "trainings", "CPU hours")
    if not costs:
        return [head, ("no method has been run yet", "–", "–")]
    each = fmean(costs.values())
    whole = sum(costs.get(name, each) for name in METHODS)
    stages = {
        "steps of a budget": (len(METHODS), whole),
        "tuning": (4 * len(METHODS), TRIALS * whole),
        "screening": (len(METHODS), whole),
        "finalists": (FINALISTS * len(FINALIST_SEEDS), FINALISTS * len(FINALIST_SEEDS) * each),
    }
    lines = [(name, str(runs), f"{hours:.1f}") for name, (runs, hours) in stages.items()]
    total = sum(runs for runs, _ in stages.values()), sum(hours for _, hours in stages.values())
    return [head, *lines, ("all", str(total[0]), f"{total[1]:.1f}")]
