"""Runs of policy gradient on a tiny base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.records import Record, Source, Task


def rows() -> list[Record]:
    return [Task(f"{a}+{b}?", f"{a + b}", Source("made", 5 * a + b)) for a in range(1, 5) for b in range(1, 4)]


def sections(**changes: Any) -> dict[str, Any]:
    """A run of four steps."""
    made: dict[str, Any] = {
        "objective": {"kind": "rloo"},
        "algorithm": {"kind": "policy_gradient"},
        "training": {"steps": 4, "batch_size": 3},
        "optimizer": {"learning_rate": 1e-2},
        "sampling": {"max_new_tokens": 6},
        "data": {"heldout": {"count": 3}},
    }
    for name, section in changes.items():
        made[name] = {**made.get(name, {}), **section}
    return made


def recipe(tmp_path: Path, base: Path, **changes: Any) -> Recipe:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps({"prompt": t.prompt, "answer": t.answer}) + "\n" for t in rows()))  # type: ignore[union-attr]  # tasks
    given = sections(**{"model": {"path": str(base), "precision": "float32"}, "run": {}, **changes})
    given["data"] = {"train": str(path), **given["data"]}
    return validate(Recipe, Document("test", {**given, "run": str(tmp_path / "run")}, {}))


def lines(run: Path, kind: str = "train") -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def digits(prompt: str, completion: str, truth: str | None) -> float:
    return sum(map(str.isdigit, completion)) + (0.0 if truth is None else 0.25)
