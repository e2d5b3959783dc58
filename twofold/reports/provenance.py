"""The origin of a run: base model, data with their hashes, command, settings, machine; and how several runs differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.records import short_name
from twofold.reports.run import RunData, read_run
from twofold.reports.tables import duration

MOST_SETTINGS = 60


def base_model(run: RunData) -> str:
    """The folder or Hub name of the model that training started from; empty if the recipe has none."""
    model = run.settings.get("model")
    if isinstance(model, Mapping):
        model = next((model[k] for k in ("path", "name") if isinstance(model.get(k), str)), "")
    return model if isinstance(model, str) else ""


def kind(run: RunData, key: str) -> str:
    """The `kind` of a section of the recipe, or the value itself where the section is one word."""
    value = run.settings.get(key)
    value = value.get("kind") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else ""


def methods(runs: Sequence[RunData]) -> list[int]:
    """For each run the index of the first run of its method: recipes that differ in nothing but seed and folder."""
    keys = [_without_seed(run.settings) or repr(i) for i, run in enumerate(runs)]
    return [keys.index(key) for key in keys]


def methods_of(runs: Sequence[str]) -> dict[str, str]:
    """For each run directory the first of its method."""
    return {run: runs[at] for run, at in zip(runs, methods([read_run(Path(run)) for run in runs]), strict=True)}


def data_hashes(run: RunData) -> list[tuple[str, str]]:
    """(source, SHA-256) of each data set that environment.json records, at any depth."""
    return list(dict.fromkeys(_hashes(run.environment, "")))


def command(run: RunData) -> str:
    """The command that made the run, else the one that repeats it from its resolved recipe."""
    return run.results.command or repeat(run)


def repeat(run: RunData) -> str:
    """The command that repeats the run from its resolved recipe."""
    return f"twofold train {shlex.quote(str(run.path / 'resolved.yaml'))}"


def facts(run: RunData) -> list[str]:
    """The head of a run on the page: method, base model, steps, time, prompt format. Unknown values are left out."""
    prompts = run.environment.get("prompts")
    method = " with ".join(dict.fromkeys(k for k in (kind(run, "algorithm"), kind(run, "objective")) if k))
    told = (
        method,
        f"from {short_name(base_model(run))}" if base_model(run) else "",
        f"{run.steps:,} step{'s' if run.steps > 1 else ''}" if run.steps else "",
        duration(run),
        f"prompts {prompts}" if isinstance(prompts, str) and prompts else "",
    )
    return [fact for fact in told if fact]


def machine(run: RunData) -> list[tuple[str, str]]:
    """Versions and machine as environment.json has them, one line each."""
    told = run.environment.items()
    return [(str(k), v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for k, v in told]


def settings_diff(runs: Sequence[RunData]) -> list[tuple[str, tuple[str, ...]]]:
    """(key, value in each run) of the settings that are not the same in all; a dash where a run has no such key."""
    flat = [dict(_flat(run.settings)) for run in runs]
    keys = dict.fromkeys(key for found in flat for key in found if key != "run")
    sections = {key[:at] for key in keys for at, letter in enumerate(key) if letter == "."}
    keys = [key for key in keys if key not in sections]  # an absent section, whose keys another run has
    rows = [(key, tuple(found.get(key, "–") for found in flat)) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1][:MOST_SETTINGS]


def _without_seed(settings: Mapping[str, Any]) -> str:
    kept = {k: v for k, v in settings.items() if k not in ("seed", "run")}
    return json.dumps(kept, sort_keys=True, default=str) if kept else ""


def _hashes(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        digest = value.get("sha256")
        if isinstance(digest, str):
            source = next((value[k] for k in ("source", "file", "path") if isinstance(value.get(k), str)), name)
            yield short_name(str(source)), digest
        for key, inner in value.items():
            yield from _hashes(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _hashes(inner, name)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """`objective.beta` → `0.1`, and so on for every value; lists are one value."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif key:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
