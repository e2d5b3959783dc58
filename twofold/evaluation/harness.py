"""`harness`: evaluates models with lm-eval (EleutherAI's harness, an optional extra), and recomputes its figures.

The harness gives a figure with a standard error for each task. It also stores its items. So two models get the same
paired tests as in other tasks: on its verdicts, not on its averages.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twofold.data.turns import ChatChoice, Turns
from twofold.errors import ModelError, RecipeError
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation, Measure, Ratio
from twofold.models.adapters import base_and_adapter
from twofold.models.load import resolve_device
from twofold.models.locate import model_path
from twofold.models.precision import resolve_precision
from twofold.models.quantized import Quantization
from twofold.models.tokenizer_files import load_tokenizer
from twofold.progress import Progress, Silent


@dataclass(frozen=True)
class HarnessRequest:
    """The settings of the harness: its `tasks`; `shots`, None for each task's own number; `include`, a folder with more
    tasks; `device` and `dtype` by the harness's names, or auto for this machine's."""

    tasks: tuple[str, ...]
    shots: int | None = None
    chat: bool = False
    limit: int | None = None
    include: Path | None = None
    device: str = "auto"
    dtype: str = "auto"

    def resolved(self) -> HarnessRequest:
        """With the device and the precision of this machine where they are auto."""
        device = resolve_device(self.device)
        return replace(self, device=device, dtype=resolve_precision(self.dtype, device))

    def model_arguments(self, base: str, adapter: str | None) -> dict[str, str]:
        """A model as the harness loads it: a folder or a hub name, and an adapter over it. Raises ModelError for an
        adapter of a quantized base, which the harness would load whole."""
        if adapter and Quantization.recorded(adapter):
            remedy = "make a whole model of it with `twofold export`, and name that"
            raise ModelError("is an adapter of a quantized base", where=adapter, remedy=remedy)
        return {"pretrained": base, **({"peft": adapter} if adapter else {}), "dtype": self.dtype}

    def command(self, arguments: Mapping[str, str]) -> str:
        """The same at its own command line."""
        told = ",".join(f"{key}={value}" for key, value in arguments.items())
        words = ["lm_eval", "--model", "hf", "--model_args", told, "--tasks", ",".join(self.tasks)]
        words += ["--device", self.device]
        words += [] if self.shots is None else ["--num_fewshot", str(self.shots)]
        words += ["--apply_chat_template"] if self.chat else []
        words += [] if self.limit is None else ["--limit", str(self.limit)]
        words += [] if self.include is None else ["--include_path", str(self.include)]
        return shlex.join([*words, "--log_samples"])


def harness(
    models: Sequence[str], request: HarnessRequest, *, style: ChatChoice = "auto", progress: Progress | None = None
) -> Evaluation:
    """The results of lm-eval for each model on the tasks of `request`, with our intervals and paired tests.

    `models` are folders, run directories, adapters or hub names; `style` puts prompts to each as data.chat of a recipe
    does: in its chat template, where it has one and was not trained on bare text (auto). Raises RecipeError where
    lm-eval is not installed, with the commands to run elsewhere, and for a task that it does not know.
    """
    request, progress = request.resolved(), progress or Silent()
    arguments: dict[str, dict[str, str]] = {
        name: request.model_arguments(*base_and_adapter(model_path(name))) for name in dict.fromkeys(models)
    }
    asked = {name: replace(request, chat=_in_chat(name, style)) for name in arguments}
    commands = {name: asked[name].command(told) for name, told in arguments.items()}
    require_harness(list(commands.values()))
    found: list[Entry] = []
    for name, told in arguments.items():
        progress.note(f"{name}: lm-eval on {', '.join(request.tasks)}")
        found.append(entry(name, run(asked[name], told), commands[name]))
    return Evaluation.of(found, harness="lm-eval", harness_tasks=list(request.tasks))


def _in_chat(model: str, style: ChatChoice) -> bool:
    return style != "text" and Turns(load_tokenizer(model_path(model)), style).renders


def require_harness(commands: Sequence[str]) -> None:
    """Raise RecipeError, with what to run elsewhere, where the package is not there."""
    if find_spec("lm_eval") is None:
        elsewhere = "\n    ".join(commands)
        raise RecipeError(
            "the package lm-eval is not installed",
            where="--harness lm-eval",
            remedy=f"pip install 'twofold[harness]', or run this where it is:\n    {elsewhere}",
        )


def run(asked: HarnessRequest, arguments: Mapping[str, str]) -> dict[str, Any]:
    """The results of lm-eval for a model, including items. Raises RecipeError for a task that it does not have."""
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]  # an extra
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  # likewise

    manager = TaskManager(include_path=None if asked.include is None else str(asked.include))
    unknown = [task for task in asked.tasks if not manager.match_tasks([task])]
    if unknown:
        remedy = "`lm_eval ls tasks` names them; --harness-include FOLDER adds yours"
        raise RecipeError(f"lm-eval knows no task {unknown[0]!r}", where="--harness-tasks", remedy=remedy)
    found = simple_evaluate(
        model="hf", model_args=dict(arguments), tasks=list(asked.tasks), num_fewshot=asked.shots, device=asked.device,
        limit=asked.limit, apply_chat_template=asked.chat, task_manager=manager, log_samples=True, bootstrap_iters=0,
    )  # fmt: skip
    assert found is not None  # it is, on every rank but the first
    return dict(found)


def entry(name: str, found: Mapping[str, Any], command: str) -> Entry:
    """The line of a table from the harness's items: task, filter and metric are a metric here; Wilson's interval where
    every item is 0 or 1, the bootstrap elsewhere. What is no number of one item (word perplexities) is left out."""
    values: dict[str, dict[Any, float]] = {}
    rows: list[dict[str, Any]] = []
    for task, items in found["samples"].items():
        for item in items:
            for metric in item["metrics"]:
                value = item[metric]
                if isinstance(value, bool | int | float):
                    key = f"{task}, {metric}" + ("" if item["filter"] == "none" else f", {item['filter']}")
                    values.setdefault(key, {})[item["doc_id"]] = float(value)
                    rows.append({"model": name, "task": task, "name": f"{task}:{item['doc_id']}", "metric": metric,
                                 "filter": item["filter"], "value": float(value)})  # fmt: skip
    about = {"lm_eval": {"command": command, "versions": found.get("versions", {}), "shots": found.get("n-shot", {})}}
    return Entry(name, {key: _measure(by_item) for key, by_item in values.items()}, about=about, rows=rows)


def _measure(by_item: Mapping[Any, float]) -> Measure:
    found = [by_item[item] for item in sorted(by_item)]
    if all(value in (0.0, 1.0) for value in found):
        return BinaryOutcomes([value == 1.0 for value in found])
    return Ratio(found, [1.0] * len(found))
