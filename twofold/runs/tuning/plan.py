"""The trials of a tune file: recipes with their steps at each rung, and what identifies each of them on disk."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from twofold.config.load import plain, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.objectives.base import Objective
from twofold.progress import Progress
from twofold.runs.dataset import read_dataset
from twofold.runs.dry_run import DryRun, dry_run
from twofold.runs.tuning.grid import Grid, Point, slug
from twofold.runs.tuning.halving import Halving
from twofold.runs.tuning.measure import reference_of, refuse_unmeasurable
from twofold.runs.tuning.rows import Items, read_items, refuse_measured, refuse_trained
from twofold.runs.tuning.settings import TuneSettings
from twofold.shards import digest, looks


@dataclass(frozen=True)
class Trial:
    """A point of a grid: `number` in the order of the grid, its recipe, and the steps at each rung. `key` identifies
    everything that decides its figures."""

    number: int
    point: Point
    recipe: Recipe
    steps: Sequence[int]
    key: str

    def seeded(self, seed: int, out: Path) -> Recipe:
        """The recipe of its run with a seed. All trials share a cache of the reference and one of tokens."""
        reference, data = self.recipe.reference, self.recipe.data
        stored = str(out / "reference-cache") if reference.kind == "cached" else None
        return replace(
            self.recipe,
            run=str(self.run(seed, out)),
            seed=seed,
            reference=replace(reference, cache=reference.cache or stored),
            data=replace(data, cache=data.cache or str(out / "data-cache")),
        )

    def run(self, seed: int, out: Path) -> Path:
        """The folder of its run with a seed."""
        return out / "trials" / self.key / f"seed-{seed}"


@dataclass(frozen=True)
class Method:
    """A recipe with its trials, in the order in which a budget takes them up."""

    name: str
    recipe: str
    trials: Sequence[Trial]
    facts: DryRun
    """Of the first point."""

    @property
    def total(self) -> int:
        """Steps of the longest trial."""
        return max(trial.steps[-1] for trial in self.trials)


@dataclass(frozen=True)
class Plan:
    """Everything that `twofold tune` is about to do."""

    settings: TuneSettings
    methods: Sequence[Method]
    development: Items
    confirm: Items
    reference: str | None

    @property
    def halving(self) -> Halving:
        return Halving(self.settings.rungs, self.settings.eta)

    @property
    def out(self) -> Path:
        return Path(self.settings.out)

    @cached_property
    def budget(self) -> int:
        """Steps for each method, if the budget is in steps."""
        return self.settings.budget.steps or min(self.whole(method) for method in self.methods)

    def whole(self, method: Method) -> int:
        """Steps of the whole grid of a method, over all seeds."""
        return self.halving.cost(len(method.trials), method.total) * len(self.settings.seeds)

    def size(self, method: Method, tokens_per_step: float | None = None) -> int | None:
        """How many trials of `method` the budget allows. With a budget of tokens, None until those of a step are known.
        Raises RecipeError if it allows none."""
        seeds, budget = len(self.settings.seeds), self.settings.budget
        steps = float(self.budget)
        if budget.tokens is not None:
            if tokens_per_step is None:
                return None
            steps = budget.tokens / tokens_per_step
        size = self.halving.affordable(len(method.trials), method.total, steps / seeds)
        if size == 0:
            least = self.halving.cost(1, method.total) * seeds
            one = f"one trial of {method.name} takes {least} steps"
            if tokens_per_step is not None:
                one += f", about {tokens_per_step * least:,.0f} tokens"
            where = "budget.steps" if budget.tokens is None else "budget.tokens"
            raise RecipeError(f"{one}: more than the budget", where=where, remedy="raise it, or train for fewer steps")
        return size


def make_plan(settings: TuneSettings, grids: Sequence[Grid], progress: Progress) -> Plan:
    """Validate every trial, read all rows and count steps. Raises TwofoldError for each mistake that a trial would
    make, and where rows that choose or confirm are trained on."""
    recipes = [[validate(Recipe, point.document) for point in grid.points] for grid in grids]
    for grid, each in zip(grids, recipes, strict=True):
        _refuse_reward_model(grid, each[0].objective)
    reference = reference_of(settings.evaluate, [recipe.model.path for each in recipes for recipe in each])
    development, confirm = read_items(settings)
    for items in (development, confirm):
        refuse_unmeasurable(settings.evaluate, items)
    about = {"figure": repr(settings.evaluate), "reference": reference, "halving": (settings.rungs, settings.eta)}
    about["rows"] = development.digest
    builder = _Builder(settings, development, confirm, about, progress)
    methods = [builder.method(grid, each) for grid, each in zip(grids, recipes, strict=True)]
    return Plan(settings, methods, development, confirm, reference)


@dataclass(frozen=True)
class _Builder:
    """Makes trials of recipes. Rows are read once for all points that read the same."""

    settings: TuneSettings
    development: Items
    confirm: Items
    about: Mapping[str, Any]
    progress: Progress

    def method(self, grid: Grid, recipes: Sequence[Recipe]) -> Method:
        facts: dict[str, tuple[DryRun, Mapping[str, str]]] = {}
        trials: list[Trial] = []
        halving = Halving(self.settings.rungs, self.settings.eta)
        for number, (point, recipe) in enumerate(zip(grid.points, recipes, strict=True)):
            settings = plain(recipe)
            reads = digest({name: settings[name] for name in ("model", "data", "evaluation")}, [])
            if reads not in facts:
                facts[reads] = self._facts(grid.name, recipe)
            fact, data = facts[reads]
            total = recipe.training.total_steps(fact.used, recipe.algorithm.passes)
            own = {**settings, "run": "", "seed": 0, "data": {**settings["data"], "cache": None}}
            inputs = looks([recipe.model.path, recipe.model.adapter])
            key = digest({"recipe": own, "data": data, "inputs": inputs, **self.about}, [])[:10]
            trials.append(Trial(number, point, recipe, halving.steps(total), f"{slug(grid.name)}-{key}"))
        order = random.Random(0).sample(trials, len(trials))
        return Method(grid.name, grid.recipe, order, next(iter(facts.values()))[0])

    def _facts(self, name: str, recipe: Recipe) -> tuple[DryRun, dict[str, str]]:
        """The counts of a recipe, and digests of its rows, which no measured prompt may be among."""
        dataset = read_dataset(recipe, recipe.objective, progress=self.progress)
        trained = [dataset.train, dataset.generator, dataset.also]
        refuse_trained(self.development, trained, name)
        refuse_trained(self.confirm, trained, name)
        measured = {"data.heldout": dataset.heldout, "evaluation.tasks": dataset.tasks}
        refuse_measured(self.confirm, measured, name)
        return dry_run(recipe, self.progress), {name: table.sha256 for name, table in dataset.tables.items()}


def _refuse_reward_model(grid: Grid, objective: Objective) -> None:
    if objective.reads != "logps":
        what = f"{type(objective).__name__} trains a reward model, which none of these figures measures"
        raise RecipeError(what, where=f"recipe {grid.recipe}", remedy="tune recipes that train a policy")
