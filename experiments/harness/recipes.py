"""Recipes that experiments run: stages taken up where they stopped, the demo's own, and trainers that are not run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

from experiments.harness.files import read_json
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.models.load import load_policy
from twofold.models.policy import Policy
from twofold.progress import Progress, Silent
from twofold.rewards.base import RewardFunction
from twofold.runs.build import build_trainer
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset
from twofold.runs.train import RunOptions, train_recipe
from twofold.training.trainer import Trainer

Sections = Mapping[str, Any]
Functions = Mapping[str, RewardFunction]


def recipe_of(sections: Sections, command: str) -> Recipe:
    return validate(Recipe, Document(command, dict(sections), {}))


def stage(run: Path, sections: Sections, command: str, progress: Progress | None = None) -> dict[str, Any]:
    """The results of a recipe run into `run`: taken up where it stopped, read where it is done."""
    if not (run / "results.json").is_file():
        recipe = recipe_of({**sections, "run": str(run)}, command)
        train_recipe(recipe, RunOptions(progress=progress or Silent(), command=command))
    return read_json(run / "results.json")


def demo_run(
    run: Path, recipe: str, paths: Mapping[str, Path], overrides: Sequence[str], command: str,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The results of one of the demo's recipes from its base, run into `run` with these paths and overrides."""
    if not (run / "results.json").is_file():
        with as_file(files("twofold.demo")) as demo:
            paths = {"model.path": demo / "base", "run": run, **paths}
            written = [f"{key}={json.dumps(str(path))}" for key, path in paths.items()]
            made = validate(Recipe, load_recipe(demo / "recipes" / f"{recipe}.yaml", [*written, *overrides]))
            train_recipe(made, RunOptions(progress=progress or Silent(), command=command))
    return read_json(run / "results.json")


def reward_sections(model: Path, pairs: Path, heldout: Path, *, rate: float, steps: int) -> dict[str, Any]:
    """A Bradley–Terry reward model of `pairs`, from `model`."""
    return {
        "model": {"path": str(model), "precision": "float32"},
        "data": {"train": str(pairs), "heldout": {"file": str(heldout)}},
        "objective": {"kind": "bradley_terry", "centring": 0.01},
        "optimizer": {"learning_rate": rate, "warmup": 5},
        "training": {"steps": steps, "batch_size": 32, "checkpoint_every": steps},
    }


def assemble(recipe: Recipe, functions: Functions | None = None) -> tuple[Trainer, Policy, RunContext]:
    """A recipe before its first step."""
    records = read_dataset(recipe, recipe.objective)
    policy, loaded = load_policy(recipe.model, recipe.seed)
    assert isinstance(policy, Policy)
    context = RunContext(recipe, recipe.objective, policy, loaded, records, Silent(), functions or {})
    Path(recipe.run).mkdir(parents=True, exist_ok=True)
    return build_trainer(context, Path(recipe.run)), policy, context


def replaced(sections: Any, sign: str, path: str) -> Any:
    """The sections of a recipe with `path` wherever `sign` stands."""
    if isinstance(sections, Mapping):
        return {name: replaced(value, sign, path) for name, value in cast("Sections", sections).items()}
    return sections.replace(sign, path) if isinstance(sections, str) else sections
