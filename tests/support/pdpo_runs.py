"""Runs of PDPO on a tiny base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe


def rows(last: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"{a}+{b}?", "chosen": f"{a}+{b}={a + b}\n{last}{a + b}", "rejected": f"#### {a}"}
        for a in range(1, 7)
        for b in range(1, 4)
    ]


def recipe(tmp_path: Path, base: Path, data: list[dict[str, str]], **algorithm: Any) -> Recipe:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(path), "generator": {"count": 6}},
        "algorithm": {"kind": "pdpo", "prompts": 3, "warmup": 0, "drop_truncated": False, **algorithm},
        "training": {"steps": 4, "batch_size": 4},
        "optimizer": {"learning_rate": 1e-2},
        "sampling": {"max_new_tokens": 6},
        "run": str(tmp_path / "run"),
    }
    return validate(Recipe, Document("test", given, {}))


def lines(tmp_path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
