"""What other verbs read from a run directory, such as its initial model, and what they add to its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from twofold import disk, manifest
from twofold.config.load import load_recipe
from twofold.errors import DataError, RecipeError
from twofold.locks import exclusive

Row = Mapping[str, Any]
PATIENCE = 60.0
"""Seconds to wait for a file of figures that another process is writing."""
LOGS = ("metrics.jsonl", "timings.jsonl", "samples.jsonl", "warnings.jsonl")
FILES = (*LOGS, "resolved.yaml", "environment.json", "results.json")
"""The files in the manifest of a finished run. A model's folder has its own manifest."""
FOLDERS = ("data-cache", "reference-cache", "fit", "served", "tensorboard")


@dataclass(frozen=True)
class Origin:
    """From a run's recipe: its initial model, whether that is its reference, and the β of its objective."""

    model: str
    is_reference: bool
    beta: float | None


def is_run(model: str) -> bool:
    """Whether `model` is a run directory."""
    return (Path(model) / "resolved.yaml").is_file()


def origin(run: str) -> Origin | None:
    """The origin of a run; None if `run` is not a run directory."""
    if not is_run(run):
        return None
    data: Row = load_recipe(Path(run) / "resolved.yaml", []).data
    beta, reference = data.get("objective", {}).get("beta"), data.get("reference", {})
    return Origin(
        model=str(data.get("model", {}).get("path", "")),
        is_reference=reference.get("kind") != "moving" and not reference.get("fit"),
        beta=float(beta) if isinstance(beta, int | float) and beta > 0 else None,
    )


def common_origin(models: Sequence[str]) -> str:
    """The initial model of all runs. Raises RecipeError if they differ or are not known."""
    origins = [origin(model) for model in models]
    named = {o.model for o in origins if o is not None}
    if len(named) != 1 or None in origins:
        what = "the runs began with different models" if len(named) > 1 else "KL requires a reference model"
        raise RecipeError(what, where="--task frontier", remedy="name the model: --reference MODEL")
    return named.pop()


def add_rows(path: Path, rows: Sequence[Row], key: str) -> None:
    """Add `rows` to the list in a JSON file. They replace rows with the same values under `key`. A file without a list
    is replaced. Processes that do so at the same time wait for each other. Raises DataError for a file that has changed
    since it was written."""
    run, name = path.parent, path.name
    with exclusive(run / ".figures.lock", "another process is writing figures of this run", patience=PATIENCE):
        if path.exists() and (fault := manifest.faults(run, name.__eq__).get(name)):
            remedy = "remove the file: its figures are lost, and these replace them"
            raise DataError(fault, where=str(path), remedy=remedy)
        try:
            known: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        except ValueError:
            known = []
        mine, listed = {row[key] for row in rows}, cast("list[Any]", known if isinstance(known, list) else [])
        others: list[Any] = [row for row in listed if isinstance(row, dict) and cast("Row", row).get(key) not in mine]
        add_file(path, [*others, *rows])


def add_file(path: Path, value: Any) -> None:
    """Write `value` as JSON; into a run, and into its manifest."""
    disk.write(path, disk.json_text(value, indent=1))
    if is_run(str(path.parent)):
        manifest.record(path.parent, path.name)


def drop_links(run: Path) -> None:
    """Remove the links among the folders in a run, because nothing may be written through them."""
    for name in FOLDERS:
        if (run / name).is_symlink():
            (run / name).unlink()


def begin(run: Path) -> None:
    """Record that the files of the run are about to be written again."""
    manifest.forget(run, *FILES)


def finish(run: Path) -> None:
    """Record that the files of the run are final."""
    manifest.record(run, *(name for name in FILES if (run / name).is_file()))
