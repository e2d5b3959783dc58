"""Packs of `auto` are as large as memory allows; the number is written, and a run that goes on keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.models.model_size import model_size
from twofold.runs import fitting
from twofold.runs.dry_run import dry_run
from twofold.runs.train import train_recipe


def recipe(tmp_path: Path, base: Path) -> Recipe:
    rows = [{"prompt": f"{n}+1?", "chosen": "1" * (10 + n), "rejected": "2" * 9} for n in range(16)]
    train = tmp_path / "pairs.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given: dict[str, Any] = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(train)},
        "training": {"epochs": 1, "batch_size": 16, "packing": {"tokens": "auto"}},
        "run": str(tmp_path / "run"),
    }
    return validate(Recipe, Document("test", given, {}))


def machine(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(fitting, "memory_bytes", lambda device: size)


def tokens_of(planned: Any) -> int:
    return yaml.safe_load(planned.resolved)["training"]["packing"]["tokens"]


def test_a_smaller_machine_gets_smaller_packs(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(tmp_path, base)
    machine(monkeypatch, 2**40)
    large = dry_run(asked)
    assert tokens_of(large) == fitting.MOST
    there = large.memory.total  # all of it, of which a share is left free
    machine(monkeypatch, there)
    small = dry_run(asked)
    assert tokens_of(small) < large.pack_tokens
    assert small.memory.total <= 0.85 * there
    machine(monkeypatch, model_size(asked.model).parameters * 4)
    with pytest.raises(RecipeError, match="no row fits"):
        dry_run(asked)


def test_a_run_writes_the_number_and_keeps_it(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(tmp_path, base)
    machine(monkeypatch, 2**40)
    train_recipe(asked)
    written = yaml.safe_load((tmp_path / "run" / "resolved.yaml").read_text())["training"]["packing"]["tokens"]
    assert written == fitting.MOST
    machine(monkeypatch, 1)
    assert tokens_of(dry_run(asked)) == written
