"""A run from recipe to report; and the same from Python in five lines."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold.algorithms import CRITIC
from twofold.config.load import Document, dump, validate
from twofold.config.schema import Recipe
from twofold.models.heads import RewardModel, hold_reward_model, load_reward_model, save_value_model
from twofold.models.load import Loaded, hold, load_policy, resolve_device, resolve_precision, save_policy
from twofold.models.policy import Policy
from twofold.objectives.base import Objective, reading
from twofold.progress import Progress, Silent
from twofold.records import Record
from twofold.reports.card import write_card
from twofold.reports.html import write_report
from twofold.runs.build import make_loop
from twofold.runs.context import Assembly
from twofold.runs.dataset import IN_MEMORY, Records, read_records
from twofold.runs.displacement import why_chosen_fell
from twofold.runs.reference_fit import fit_stage, start_from_fit
from twofold.runs.results import results
from twofold.runs.rewards import functions_of
from twofold.training.diagnostics import CHOSEN_FALLS
from twofold.training.track import refuse_missing
from twofold.training.trainer import Outcome
from twofold.version import __version__

PACKAGES = ("torch", "transformers", "peft", "datasets", "safetensors", "numpy")


@dataclass(frozen=True)
class Trained:
    """A finished run, or one stopped by a signal (then without `results`)."""

    folder: Path
    policy: Policy | RewardModel
    tokenizer: PreTrainedTokenizerBase
    outcome: Outcome
    results: Mapping[str, Any]

    @property
    def model(self) -> PreTrainedModel:
        return self.policy.model


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a run is carried out, as opposed to what it computes."""

    progress: Progress = field(default_factory=Silent)
    resume: bool = True
    stop: Callable[[], bool] = lambda: False
    command: str = "twofold train"
    given: str | None = None
    """The recipe as the user wrote it."""


def train_recipe(recipe: Recipe, conduct: Conduct | None = None) -> Trained:
    """Run `recipe` into its folder, resuming what was interrupted there. Raises TwofoldError for users' mistakes."""
    conduct = conduct or Conduct()
    refuse_missing(recipe.training.track)
    records = read_records(recipe, recipe.objective, progress=conduct.progress)
    return _train(recipe, records, _held(recipe, recipe.objective), conduct)


def train(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    data: str | Sequence[Record],
    /,
    *,
    objective: Objective | None = None,
    run: str = "runs/latest",
    conduct: Conduct | None = None,
    **sections: Any,
) -> Trained:
    """Align `model` (folder, hub name, or model with its tokenizer) with `data` (file, hub name, or records).

    `objective` is one of twofold's or any object that fits `twofold.Objective`; it defaults to DPO. `sections` are the
    other sections of a recipe as mappings or settings: `optimizer={"learning_rate": 5e-6}`. A reward of
    `algorithm={"kind": "policy_gradient", "reward": f}`, or a `judge` under `online`, may be a function f(prompt,
    completion, truth) → number.
    """
    given: dict[str, Any] = {**sections, "run": run}
    path = model if isinstance(model, str) else model[0].config.name_or_path or IN_MEMORY
    given["model"] = {"path": path, **_mapping(sections.get("model"))}
    given["data"] = {"train": data if isinstance(data, str) else IN_MEMORY, **_mapping(sections.get("data"))}
    if objective is not None:
        given |= {"objective": objective, "allow_code": True}  # the code is here already
    functions = functions_of(given)
    recipe = validate(Recipe, Document("train()", given, {}))
    conduct = conduct or Conduct()
    refuse_missing(recipe.training.track)
    records = read_records(recipe, recipe.objective, None if isinstance(data, str) else data, conduct.progress)
    held = _held(recipe, recipe.objective, None if isinstance(model, str) else model)
    assembly = partial(Assembly, functions=functions)
    return _train(recipe, records, held, conduct, assembly)


Held = tuple[Policy | RewardModel, Loaded]


def _held(
    recipe: Recipe, objective: Objective, model: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
) -> Held:
    """The recipe's model, or the given one, as what `objective` reads: a policy or a reward model."""
    scored = reading(objective) == "scores"
    if model is not None:
        return (hold_reward_model if scored else hold)(recipe.model, *model, recipe.seed)
    return (load_reward_model if scored else load_policy)(recipe.model, recipe.seed)


def _mapping(section: Any) -> dict[str, Any]:
    if is_dataclass(section):
        return {f.name: getattr(section, f.name) for f in fields(section)}
    return dict(section or {})


def _train(
    recipe: Recipe, records: Records, held: Held, conduct: Conduct, assemble: Callable[..., Assembly] = Assembly
) -> Trained:
    policy, loaded = held
    if policy.sharing_note:
        conduct.progress.note(f"prompts are not shared: {policy.sharing_note}")
    if isinstance(policy, RewardModel) and policy.note:
        conduct.progress.note(policy.note)
    run = Path(recipe.run)
    run.mkdir(parents=True, exist_ok=True)
    if recipe.reference.fit is not None and isinstance(policy, Policy):
        fitted = fit_stage(recipe, records, (policy, loaded), run, conduct.progress).train(
            resume=conduct.resume, stop=conduct.stop
        )
        if fitted.stopped:
            return Trained(run, policy, loaded.tokenizer, fitted, {})
        start_from_fit(policy)
    assembly = assemble(recipe, recipe.objective, policy, loaded, records, conduct.progress)
    with assembly.resources:
        return _played(assembly, run, conduct)


def _played(assembly: Assembly, run: Path, conduct: Conduct) -> Trained:
    """The loop, and what it leaves in the folder."""
    recipe, policy, loaded = assembly.recipe, assembly.policy, assembly.loaded
    loop = make_loop(assembly, run)
    _describe(run, recipe, conduct, assembly)
    outcome = loop.train(resume=conduct.resume, stop=conduct.stop)
    found: dict[str, Any] = {}
    if not outcome.stopped:
        save_policy(policy, loaded.tokenizer, run / "model")
        if assembly.critic is not None:
            critic, spoken = assembly.critic
            save_value_model(critic, spoken.tokenizer, run / CRITIC)
        final = outcome.step if outcome.best_step is None else outcome.best_step
        told = {"name": run.name, "command": conduct.command}
        found = results(run, **told, final_step=final, warnings=outcome.warnings, reward=assembly.judged())
        if CHOSEN_FALLS in outcome.said and (why := why_chosen_fell(assembly, loop)):
            found["displacement"] = why.as_dict()
            conduct.progress.note(f"{why.verdict}; {why.remedy}" if why.remedy else why.verdict)
        _write(run / "results.json", found)
        write_card(run)
        write_report([run], run / "report.html")
    return Trained(run, policy, loaded.tokenizer, outcome, found)


def _describe(run: Path, recipe: Recipe, conduct: Conduct, assembly: Assembly) -> None:
    """recipe.yaml, resolved.yaml and environment.json."""
    resolved = dump(recipe)
    (run / "recipe.yaml").write_text(conduct.given or resolved, encoding="utf-8")
    (run / "resolved.yaml").write_text(resolved, encoding="utf-8")
    device = resolve_device(recipe.model.device)
    _write(
        run / "environment.json",
        {
            "command": conduct.command,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "precision": resolve_precision(recipe.model.precision, device),
            "prompts_shared": assembly.policy.shared,
            "parameters": sum(p.numel() for p in assembly.policy.model.parameters()),
            "trainable_parameters": sum(p.numel() for p in assembly.policy.trainable().values()),
            "packages": {"twofold": __version__, **{name: version(name) for name in PACKAGES}},
            "data": {
                name: {"source": t.source, "format": t.format, "sha256": t.sha256, "rows": len(t.records)}
                for name, t in assembly.records.tables.items()
            },
            "tokens": {name: encoded.counts() for name, encoded in assembly.encoded.items()},
            "steps": assembly.steps,
        },
    )


def _write(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
