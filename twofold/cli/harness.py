"""`twofold evaluate --harness lm-eval`: the models, as folders, to lm-eval, and its items back."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli.model import model_folder
from twofold.errors import RecipeError

if TYPE_CHECKING:
    from twofold.cli.evaluate_options import Options
    from twofold.evaluation.figures import Entry
    from twofold.evaluation.harness import HarnessRequest
    from twofold.progress import Progress

TAKEN = ("models", "limit", "shots", "style", "harness", "harness_tasks", "harness_include", "json_file", "out")


def judged(given: Options, progress: Progress) -> tuple[dict[str, Any], list[Entry]]:
    """What the figures are of, and a line for each model."""
    from twofold.evaluation.harness import entry, require_harness, run
    from twofold.models.load import base_and_adapter

    asked = _request(given)
    arguments: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(given.models):
        path = str(model_folder(Path(name))) if Path(name).is_dir() else name
        base, adapter = base_and_adapter(path)
        arguments[name] = asked.model_arguments(base, None if adapter is None else str(adapter))
    commands = {name: asked.command(told) for name, told in arguments.items()}
    require_harness(list(commands.values()))
    found: list[Entry] = []
    for name, told in arguments.items():
        progress.note(f"{name}: lm-eval on {', '.join(asked.tasks)}")
        found.append(entry(name, run(asked, told), commands[name]))
    return {"harness": "lm-eval", "harness_tasks": list(asked.tasks)}, found


def _request(given: Options) -> HarnessRequest:
    from twofold.evaluation.harness import HarnessRequest
    from twofold.models.load import resolve_device, resolve_precision

    if given.harness != "lm-eval":
        raise RecipeError(f"{given.harness!r} is no harness", where="--harness", remedy="write --harness lm-eval")
    if not given.harness_tasks:
        raise RecipeError("no tasks", where="--harness-tasks", remedy="name lm-eval's tasks, as gsm8k,arc_easy")
    for field in fields(given):
        if field.name not in TAKEN and getattr(given, field.name) != field.default:
            where = "--" + field.name.replace("_", "-")
            raise RecipeError("means nothing to --harness lm-eval", where=where, remedy="leave it out")
    device = resolve_device("auto")
    return HarnessRequest(
        tasks=tuple(part.strip() for part in given.harness_tasks.split(",")),
        shots=given.shots or None,
        chat=given.style == "chat",
        limit=given.limit,
        include=given.harness_include,
        device=device,
        dtype=resolve_precision("auto", device),
    )
