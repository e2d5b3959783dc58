"""A run from recipe to report, and the same from Python in five lines."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold import disk
from twofold.algorithms.gae import VALUE_MODEL
from twofold.config.load import Document, dump, validate
from twofold.config.schema import Recipe
from twofold.data.dataset import Dataset, encode_rows
from twofold.data.tokenize import Encoder
from twofold.data.turns import GUESS_REMEDY
from twofold.errors import DataError, RecipeError
from twofold.models.heads import (
    RewardModel,
    ValueModel,
    load_reward_model,
    load_value_model,
    save_value_model,
    wrap_reward_model,
    wrap_value_model,
)
from twofold.models.load import load_policy, resolve_device, save_policy, training_precision, wrap
from twofold.models.policy import Policy
from twofold.models.precision import hidden_units
from twofold.models.quantized import refuse_whole_tuning
from twofold.objectives.base import PlainObjective
from twofold.progress import Progress, Silent
from twofold.records import Record
from twofold.reports.card import write_card
from twofold.reports.html import write_report
from twofold.runs.build import build_trainer
from twofold.runs.context import Model, RunContext
from twofold.runs.dataset import IN_MEMORY, data_cache, read_dataset
from twofold.runs.displacement import chosen_displacement
from twofold.runs.experts import expert_use
from twofold.runs.fitting import with_fitting_packs
from twofold.runs.folder import begin, finish
from twofold.runs.judges import functions_of
from twofold.runs.processes import load_shared, with_settled_world
from twofold.runs.reference_fit import fit_stage, start_from_fit
from twofold.runs.results import results
from twofold.runs.run_folder import disk_errors, inputs_of, open_run_folder
from twofold.runs.unused_settings import unused_settings
from twofold.stopping import StopAsked, droppable, undroppable
from twofold.training.diagnostics import CHOSEN_FALLS
from twofold.training.track import refuse_missing
from twofold.training.trainer import Trainer, TrainOutcome
from twofold.version import __version__
from twofold.world import join, world

PACKAGES = ("torch", "transformers", "peft", "datasets", "safetensors", "numpy")


@dataclass(frozen=True)
class TrainResult:
    """A finished run, or one stopped by a signal (then without `results`)."""

    folder: Path
    policy: Policy | RewardModel | ValueModel
    tokenizer: PreTrainedTokenizerBase
    outcome: TrainOutcome
    results: Mapping[str, Any]

    @property
    def model(self) -> PreTrainedModel:
        return self.policy.model


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out, as opposed to what it computes."""

    progress: Progress = field(default_factory=Silent)
    resume: bool = True
    stop: StopAsked = lambda: False
    """Whether to stop after the step. A `StopRequest` also ends work that is useless when half done."""
    until: int | None = None
    """Stop after this step, as by a signal: the same run resumes from there."""
    command: str = "twofold train"
    recipe_text: str | None = None
    """The recipe as the user wrote it."""


def train_recipe(recipe: Recipe, options: RunOptions | None = None) -> TrainResult:
    """Run `recipe` in its folder, and resume an interrupted run there. Raises TwofoldError for users' mistakes."""
    options = _joined(recipe, options)
    refuse_missing(recipe.training.track)
    with open_run_folder(recipe.run, options.recipe_text, inputs_of(recipe)), droppable(options.stop):
        dataset = read_dataset(recipe, recipe.objective, progress=options.progress)
        recipe = with_settled_world(recipe, dataset, options.progress)
        return _train(recipe, dataset, partial(_load_model, recipe, options.progress), options)


def train(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    data: str | Sequence[Record],
    /,
    *,
    objective: PlainObjective | None = None,
    run: str = "runs/latest",
    options: RunOptions | None = None,
    **sections: Any,
) -> TrainResult:
    """Align `model` (folder, hub name, or model with its tokenizer) with `data` (file, hub name, or records).

    `objective` is one of twofold's or any object with `requires` and a call; it defaults to DPO. `sections` are the
    other sections of a recipe as mappings or settings: `optimizer={"learning_rate": 5e-6}`. A reward of
    `algorithm={"kind": "policy_gradient", "reward": f}`, or a `judge` under `online`, may be a function
    `f(prompt, completion, truth)` that returns a number.
    """
    model, data = _checked(model, data)
    given: dict[str, Any] = {**sections, "run": str(run)}
    path = model if isinstance(model, str) else model[0].config.name_or_path or IN_MEMORY
    given["model"] = {"path": path, **_mapping(sections.get("model"))}
    given["data"] = {"train": data if isinstance(data, str) else IN_MEMORY, **_mapping(sections.get("data"))}
    if objective is not None:
        given |= {"objective": objective, "allow_code": True}  # the code is here already
    functions = functions_of(given)
    recipe = validate(Recipe, Document("train()", given, {}))
    options = _joined(recipe, options)
    refuse_missing(recipe.training.track)
    inputs = inputs_of(recipe, model=isinstance(model, str))
    with open_run_folder(recipe.run, options.recipe_text, inputs), droppable(options.stop):
        dataset = read_dataset(recipe, recipe.objective, None if isinstance(data, str) else data, options.progress)
        recipe = with_settled_world(recipe, dataset, options.progress, None if isinstance(model, str) else model)
        load = partial(_load_model, recipe, options.progress)
        if not isinstance(model, str):
            load = partial(_in_memory, load, [model, *([deepcopy(model)] if _loads_twice(recipe) else [])])
        return _train(recipe, dataset, load, options, partial(RunContext, functions=functions))


def _checked(model: Any, data: Any) -> Any:
    """The model and the data of `train`, paths as texts. Raises RecipeError and DataError for what they cannot be."""
    model, data = (str(each) if isinstance(each, PurePath) else each for each in (model, data))
    if not isinstance(model, str) and not (isinstance(model, tuple) and len(cast("Any", model)) == 2):
        remedy = "give a folder, a hub name, or (model, tokenizer)"
        raise RecipeError(f"the model is {_kind(model)}", where="train()", remedy=remedy)
    if not isinstance(data, str | Sequence) or not data:
        what = "no rows" if isinstance(data, str | Sequence) else f"the data are {_kind(data)}"
        raise DataError(what, where="train()", remedy="give a file, a hub name, or a list of records")
    rows = cast("Any", data)
    if not isinstance(data, str) and not hasattr(rows[0], "prompt"):
        what = f"the first row is {_kind(rows[0])}, not a record such as twofold.Pair"
        raise DataError(what, where="train()", remedy="make records, or name a file, whose rows may have any shape")
    return model, rows


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _joined(recipe: Recipe, options: RunOptions | None) -> RunOptions:
    """The options of this process. Of the processes that a launcher has started, only the first one reports."""
    options = options or RunOptions()
    return options if join(recipe.world).first else replace(options, progress=Silent())


def _load_model(
    recipe: Recipe, progress: Progress, model: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
) -> Model:
    """The recipe's model, or the given one, as the objective requires: a policy, a reward model or a value model."""
    load, take = _WAYS[recipe.objective.reads]
    if model is not None:
        loaded = take(recipe.model, *model, recipe.seed)
    else:
        loaded = load_shared(recipe, progress, lambda: load(recipe.model, recipe.seed))
    if loaded[0].adapter is None:
        refuse_whole_tuning(loaded[0].model)
    return loaded


_WAYS: Mapping[str, tuple[Callable[..., Model], Callable[..., Model]]] = {
    "logps": (load_policy, wrap),
    "scores": (load_reward_model, wrap_reward_model),
    "values": (load_value_model, wrap_value_model),
}
"""How a model is loaded, and how one in memory is used, by what the objective reads."""


def _in_memory(load: Callable[..., Model], models: list[tuple[PreTrainedModel, PreTrainedTokenizerBase]]) -> Model:
    """The next of `models`, each of which is trained in place."""
    return load(models.pop(0))


def _loads_twice(recipe: Recipe) -> bool:
    return recipe.reference.fit is not None and world().size > 1


def _mapping(section: Any) -> dict[str, Any]:
    if is_dataclass(section):
        return {f.name: getattr(section, f.name) for f in fields(section)}
    return dict(section or {})


def _train(
    recipe: Recipe,
    dataset: Dataset,
    load: Callable[[], Model],
    options: RunOptions,
    make: Callable[..., RunContext] = RunContext,
) -> TrainResult:
    policy, loaded = model = load()
    policy.keep_masters()
    if recipe.training.packing.tokens == "auto":
        encoder = Encoder(loaded.tokenizer, loaded.stop_tokens, recipe.data.tokenize, recipe.data.chat)
        rows = encode_rows(dataset.train, encoder, data_cache(recipe), options.progress, recipe.data.workers).groups
        recipe = with_fitting_packs(recipe, rows)
        options.progress.note(f"packs of {recipe.training.packing.tokens} tokens, which fit into memory")
    for note in (f"prompts are not shared: {policy.sharing_note}" if policy.sharing_note else "", policy.note):
        if note:
            options.progress.note(note)
    folder = Path(recipe.run)
    if recipe.reference.fit is not None:
        stage = fit_stage(recipe, dataset, model, folder, options.progress, resume=options.resume)
        with undroppable(options.stop), disk_errors(folder):
            fitted = stage.train(resume=options.resume, stop=options.stop)
        if fitted.stopped:
            return TrainResult(folder, policy, loaded.tokenizer, fitted, {})
        policy, loaded = start_from_fit(stage, model, load)
    run = make(recipe, recipe.objective, policy, loaded, dataset, options.progress)
    with run.resources:
        return _run_training(run, folder, options)


def _run_training(run: RunContext, folder: Path, options: RunOptions) -> TrainResult:
    """Train, and write the results into the folder."""
    policy, loaded = run.policy, run.loaded
    with disk_errors(folder):
        trainer = build_trainer(run, folder, resume=options.resume)
        if world().first:
            begin(folder)
            _describe(folder, options, run)
        with undroppable(options.stop):
            outcome = trainer.train(resume=options.resume, stop=options.stop, until=options.until)
        figures = {} if outcome.stopped else _write_results(run, folder, options, trainer, outcome)
    return TrainResult(folder, policy, loaded.tokenizer, outcome, figures)


def _write_results(
    run: RunContext, folder: Path, options: RunOptions, trainer: Trainer, outcome: TrainOutcome
) -> dict[str, Any]:
    """The model, its figures, its card and its report."""
    policy, loaded = run.policy, run.loaded
    save_policy(policy, loaded.tokenizer, folder / "model")
    if run.value_model is not None:
        value_model, source = run.value_model
        save_value_model(value_model, source.tokenizer, folder / VALUE_MODEL)
    final = outcome.step if outcome.best_step is None else outcome.best_step
    named = {"name": folder.name, "command": options.command}
    reward = run.judged()
    figures = world().once(lambda: results(folder, **named, final_step=final, warnings=outcome.warnings, reward=reward))
    if CHOSEN_FALLS in outcome.warning_kinds and (why := chosen_displacement(run, trainer)):
        figures["displacement"] = why.as_dict()
        options.progress.note(f"{why.verdict}; {why.remedy}" if why.remedy else why.verdict)
    figures |= expert_use(run)
    if not world().first:
        return figures
    _write(folder / "results.json", figures)
    write_card(folder)
    write_report([folder], folder / "report.html")
    finish(folder)
    return figures


def _describe(folder: Path, options: RunOptions, run: RunContext) -> None:
    """recipe.yaml, resolved.yaml and environment.json."""
    recipe, resolved = run.recipe, dump(run.recipe)
    prompts = run.prompts()
    options.progress.note(f"prompts: {prompts}")
    for table in run.dataset.tables.values():
        if guess := run.encoder.turns.of_format(table.format):
            options.progress.warn(f"{table.source}: {guess} → {GUESS_REMEDY}")
    for message in unused_settings(recipe, run.steps, len(run.dataset.generator)):
        options.progress.warn(message)
    disk.write(folder / "resolved.yaml", resolved)  # first, because it marks the folder as that of a run
    disk.write(folder / "recipe.yaml", options.recipe_text or resolved)
    device = resolve_device(recipe.model.device)
    _write(
        folder / "environment.json",
        {
            "command": options.command,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "precision": training_precision(recipe.model, hidden_units(run.policy.model.config)),
            "prompts_shared": run.policy.shared,
            "parameters": sum(p.numel() for p in run.policy.model.parameters()),
            "trainable_parameters": sum(p.numel() for p in run.policy.trainable().values()),
            "packages": {"twofold": __version__, **{name: version(name) for name in PACKAGES}},
            "data": {
                name: {"source": t.source, "format": t.format, "sha256": t.sha256, "rows": len(t.records)}
                for name, t in run.dataset.tables.items()
            },
            "alike": run.dataset.alike,
            "prompts": prompts,
            "tokens": {name: encoded.counts() for name, encoded in run.encoded.items()},
            "steps": run.steps,
        },
    )


def _write(path: Path, data: Mapping[str, Any]) -> None:
    disk.write(path, disk.json_text(data, indent=2))
