"""What determines the results of a run, and which parts of it may change when the run is resumed."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any, cast

from twofold import disk
from twofold.config.custom import own_kind
from twofold.config.load import plain
from twofold.data.stored_groups import fingerprint, tokenizer_digest
from twofold.errors import RecipeError
from twofold.models.load import training_precision, weights_digest
from twofold.models.precision import hidden_units
from twofold.runs.context import RunContext
from twofold.training.identity import ABSENT, MOST, Identity
from twofold.version import __version__
from twofold.world import world

FREE = (
    "run",
    "allow_code",
    "model.path",
    "model.revision",
    "model.device",
    "model.precision",
    "training.keep_checkpoints",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.track",
    "training.alarms.repetition",
    "training.alarms.length",
    "reference.cache",
    "data.cache",
    "data.workers",
    *(f"world.{way}" for way in ("kind", "reduce", "reshard_after_forward", "prefetch", "offload", "timeout")),
    *(f"sampling.server.{way}" for way in ("url", "timeout", "attempts", "pause", "parallel")),
)
"""Settings that do not change the results: paths, and how often a run saves. The identity has the values behind a path
or `auto` instead: weights, precision, device."""

ADJUSTABLE = (
    "optimizer.learning_rate",
    "optimizer.clip",
    "algorithm.value.learning_rate",
    "training.evaluate_every",
    "training.packing.tokens",
    "training.packing.groups",
    "model.activation_checkpointing",
    "model.recompute_every",
    "sampling.batch_size",
    "evaluation.sampling.batch_size",
    "device",
    "torch",
    "transformers",
)
"""What may change while steps are left, with a warning that is stored in the results: rates and clipping (the remedy
for numbers that are not finite), how often to evaluate, and settings that change only memory, speed and rounding."""

_FROM_CONFIG = "transformers_version", "_from_model_config"
_MODEL_FILES = "*.safetensors", "*.gguf", "config.json", "adapter_config.json"


def identity_of(run: RunContext) -> Identity:
    """The identity of a run, before its model is trained."""
    settings = flat(plain(run.recipe))
    named = dict(_contents(settings))
    for free in FREE:
        settings.pop(free, None)
    model, device = run.policy.model, run.policy.device.type
    rows = {f"data ({name})": fingerprint(groups) for name, groups in run.groups.items() if groups}
    rows["data (tasks)"] = hashlib.sha256(repr(run.dataset.tasks).encode()).hexdigest()[:16]
    rate = run.recipe.evaluation.win_rate
    if rate is not None and Path(rate.prompts).is_file():
        rows["data (win rate)"] = disk.sha256(Path(rate.prompts))[:16]
    generation = model.generation_config.to_diff_dict() if model.can_generate() else {}
    values = {
        **settings,
        **rows,
        **named,
        **_own_code(run),
        **{f"generation settings ({k})": v for k, v in plain(generation).items() if k not in _FROM_CONFIG},
        "steps": run.steps,
        "precision": training_precision(run.recipe.model, hidden_units(model.config)),
        "device": device,
        "model (weights)": weights_digest(model)[:16],
        "tokenizer": tokenizer_digest(run.loaded.tokenizer)[:16],
        "stop tokens": sorted(run.loaded.stop_tokens),
        "objective (settings)": repr(run.objective),
        "twofold": __version__,
        **{name: version(name) for name in ("torch", "transformers")},
    }
    return Identity(values, ADJUSTABLE)


def refuse_differences(identity: Identity) -> None:
    """Raise RecipeError, on every process, where one has a different run: other rows, weights or packages."""
    told = {name: repr(value) for name, value in identity.values.items()}
    digests = {name: hashlib.sha256(value.encode()).hexdigest()[:16] for name, value in told.items()}
    every = world().gather(digests)
    names = sorted({name for other in every for name, _ in {*every[0].items()} ^ {*other.items()}})
    if names:
        words = world().gather(told.get(names[0], ABSENT))
        seen = "; ".join(f"process {rank}: {word}" for rank, word in enumerate(words[:MOST]))
        remedy = "give all processes the same files, packages and settings; name what is auto (model.precision)"
        raise RecipeError(f"differs between processes: {seen}", where=names[0], remedy=remedy)


def flat(tree: object, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    branches = cast("Mapping[str, object]", tree).items()
    return {k: v for name, sub in branches for k, v in flat(sub, f"{prefix}.{name}" if prefix else name).items()}


def _own_code(run: RunContext) -> dict[str, str]:
    """Digests of the user's code: the class of an objective, functions that reward or judge."""
    own: dict[str, Any] = dict(run.functions)
    if own_kind(run.objective) is not None:
        own["objective"] = run.objective
    return {f"{name} (code)": source_digest(thing) for name, thing in own.items()}


def source_digest(thing: Any) -> str:
    """A digest of the code of a function or of an object's class. It covers the text of its module. In a script or
    notebook, which also has settings, it covers only that code and what it uses there. Without a text, it covers the
    bytecode."""
    code = thing if inspect.isroutine(thing) or inspect.isclass(thing) else cast("Any", type(thing))
    module = inspect.getmodule(code)
    try:
        if module is None or module.__name__ == "__main__":
            text = "\n".join(_used(code, set()))
        else:
            text = inspect.getsource(module)
    except (OSError, TypeError):
        text = repr(sorted(_compiled(code)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _used(code: Any, seen: set[str]) -> Iterator[str]:
    """The source of `code`, and of the functions and classes in the same module that it names."""
    yield inspect.getsource(code)
    beside = vars(inspect.getmodule(code)) if inspect.getmodule(code) is not None else {}
    for function in _functions(code):
        for name in function.__code__.co_names:
            other = beside.get(name)
            own = (inspect.isfunction(other) or inspect.isclass(other)) and other.__module__ == code.__module__
            if own and name not in seen:
                seen.add(name)
                yield from _used(other, seen)


def _functions(code: Any) -> list[Callable[..., Any]]:
    members = vars(code).values() if inspect.isclass(code) else [code]
    return [member for member in members if inspect.isfunction(member)]


def _compiled(code: Any) -> Iterator[str]:
    for function in _functions(code):
        consts = [c for c in function.__code__.co_consts if not isinstance(c, CodeType)]
        yield repr((function.__name__, function.__code__.co_code, function.__code__.co_names, consts))


def _contents(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A digest of each model folder in the settings except the policy's own: judges, references, value models."""
    for key, value in settings.items():
        if key in FREE or key.startswith("data."):
            continue
        for text in _texts(value):
            kind, _, argument = text.partition(":")
            files = _model_files(argument) or _model_files(kind)
            if files:
                yield f"{key} (files)", _digest_of_files(files)


def _model_files(name: str) -> list[Path]:
    """The weights and settings of a model folder or of a run's model; of any other name, none."""
    if not name or not os.path.isdir(name):  # takes any text, however long
        return []
    for folder in (Path(name) / "model", Path(name)):
        if files := sorted(file for like in _MODEL_FILES for file in folder.glob(like)):
            return files
    return []


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in cast("Mapping[str, Any]", value).values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from _texts(inner)


def _digest_of_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
