"""Run directories as training leaves them, with made-up figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from twofold.reports.columns import Columns
from twofold.reports.run import Results, RunData
from twofold.statistics import mcnemar, mean_interval, wilson

Make = Callable[..., Path]
PROBLEMS = 40
NOTHING: Mapping[str, float] = {}
NO_SERIES: Mapping[str, list[float]] = {}
RECIPE = """algorithm: {{kind: {kind}}}
model:
  path: acme/base-1
objective:
  kind: dpo
  beta: 0.1
run: {run}
seed: {seed}
"""
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture
def make_run(tmp_path: Path) -> Make:
    """Write a run: `solved` of `problems` before and after, `extra` metrics on every line of training."""

    def make(
        name: str,
        *,
        solved: tuple[int, int] = (10, 30),
        steps: int = 40,
        extra: Mapping[str, float] = NOTHING,
        seed: int = 0,
        problems: int = PROBLEMS,
    ) -> Path:
        folder = tmp_path / name.replace("/", "_")
        folder.mkdir()
        before, after = [i < solved[0] for i in range(problems)], [i >= problems - solved[1] for i in range(problems)]
        lines(folder / "metrics.jsonl", [*train_lines(steps, extra), *evaluations(steps, solved, problems)])
        lines(folder / "timings.jsonl", [{"step": s, "seconds": 0.5} for s in range(steps)])
        said = [sample(0, i, right) for i, right in enumerate(before)]
        lines(folder / "samples.jsonl", said + [sample(steps, i, right) for i, right in enumerate(after)])
        (folder / "results.json").write_text(json.dumps(results(name, before, after)))
        (folder / "resolved.yaml").write_text(recipe(folder, extra, seed))
        data = {"pairs": {"source": "pairs.jsonl", "sha256": DIGEST}}
        tokens = {"train": {"rows": 2000, "used": 2000, "dropped": [], "cut_prompt": 0, "stop_cut": 0}}
        (folder / "environment.json").write_text(json.dumps({"python": "3.11.9", "data": data, "tokens": tokens}))
        return folder

    return make


def recipe(folder: Path, extra: Mapping[str, float], seed: int) -> str:
    return RECIPE.format(kind="pdpo" if extra else "offline", run=folder, seed=seed)


def lines(path: Path, objects: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))


def train_lines(steps: int, extra: Mapping[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "kind": "train", "step": s - 1, "loss": 0.69 / s, "margin": 0.1 * s, "accuracy": 0.9, "grad_norm": 1.0,
            "chosen_reward": 0.01 * s, "rejected_reward": -0.1 * s, "chosen_logp": -20.0, "rejected_logp": -30.0 - s,
            **extra,
        }
        for s in range(1, steps + 1)
    ]  # fmt: skip


def evaluations(steps: int, solved: tuple[int, int], problems: int = PROBLEMS) -> list[dict[str, Any]]:
    return [
        {"kind": "evaluation", "step": s, "exact_match/strict": k / problems, "exact_match/n": problems,
         "heldout/accuracy": 0.5 + 0.3 * (s > 0)}
        for s, k in ((0, solved[0]), (steps // 2, solved[1]), (steps, solved[1]))
    ]  # fmt: skip


def sample(step: int, index: int, right: bool) -> dict[str, Any]:
    answer = f"#### {index}"
    return {
        "step": step, "name": f"test.jsonl:{index + 1}", "prompt": f"What is {index}?", "answer": answer,
        "completion": answer if right else "none", "strict": right, "flexible": right, "truncated": False,
    }  # fmt: skip


def results(name: str, before: list[bool], after: list[bool]) -> dict[str, Any]:
    test = {"a": "base", "b": "policy", "metric": "strict", **mcnemar(before, after).as_dict()}
    verdicts = {"base": before, "policy": after}
    models = [{"name": model, "strict": wilson(sum(v), len(v)).as_dict()} for model, v in verdicts.items()]
    return {
        "name": name, "command": f"twofold train {name}.yaml", "models": models, "comparisons": [test],
        "training": {"margin": mean_interval([3.0, 4.0, 5.0]).as_dict()},
        "heldout": {"accuracy": wilson(800, 1000).as_dict()}, "warnings": [],
    }  # fmt: skip


def run_data(
    *,
    train: Mapping[str, list[float]] = NO_SERIES,
    timings: Mapping[str, list[float]] = NO_SERIES,
    evaluations: Mapping[str, list[float]] = NO_SERIES,
    **parts: Any,
) -> RunData:
    """A run that was never written: each metric's values at steps 0, 1, 2 …, and other `parts` of RunData."""
    columns = [Columns(), Columns()]
    for column, series in zip(columns, (train, timings), strict=True):
        for key, values in series.items():
            for step, value in enumerate(values):
                column.add({"step": step, key: value})
    rows = dict[int, dict[str, float]]()
    for key, values in evaluations.items():
        for step, value in enumerate(values):
            rows.setdefault(step, {"step": step})[key] = value
    whole: dict[str, Any] = {
        "path": Path("runs/a"), "name": "a", "samples": (), "results": Results(), "recipe": "", "settings": {},
        "environment": {}, "faults": (),
    }  # fmt: skip
    return RunData(train=columns[0], timings=columns[1], evaluations=tuple(rows.values()), **{**whole, **parts})
