"""What a step of a method costs: a few steps in a temporary folder, before anything is run for long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from twofold.config.load import validate
from twofold.config.schema import Recipe
from twofold.runs.train import RunOptions, train_recipe
from twofold.runs.tuning.plan import Method
from twofold.runs.tuning.trial import Quiet, step_costs

STEPS = 3
"""The first step is not counted: it includes one-time work."""


@dataclass(frozen=True)
class Pace:
    """Of one step."""

    tokens: float
    seconds: float


def probe(method: Method, seed: int, progress: Quiet) -> Pace:
    """The tokens and seconds of a step of the first trial, without warm-up, evaluations and results."""
    trial = method.trials[0]
    data = dict(trial.point.document.data)
    with TemporaryDirectory() as folder:
        over: Mapping[str, Mapping[str, Any]] = {
            "training": {"steps": STEPS, "best_metric": None, "patience": None},
            "evaluation": {"tasks": None},
        }
        sections = {name: {**data.get(name, {}), **values} for name, values in over.items()}
        recipe = validate(Recipe, replace(trial.point.document, data={**data, **sections, "run": folder, "seed": seed}))
        algorithm = recipe.algorithm
        if hasattr(algorithm, "warmup"):
            recipe = replace(recipe, algorithm=replace(algorithm, warmup=0))
        train_recipe(recipe, RunOptions(progress=progress, until=STEPS - 1, command="twofold tune --dry-run"))
        costs = step_costs(Path(folder))
    steady = [*costs.values()][1:] or [*costs.values()]
    return Pace(fmean(cost["tokens"] for cost in steady), fmean(cost["seconds"] for cost in steady))
