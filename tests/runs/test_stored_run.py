"""A run whose data does not fit into memory is, to the last bit, the run that it would have been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.data import load
from twofold.data.lazy import MappedRows, Subset
from twofold.errors import DataError
from twofold.models import reference
from twofold.progress import Silent
from twofold.runs.dataset import read_dataset
from twofold.runs.dry_run import dry_run
from twofold.runs.train import train_recipe


def recipe(tmp_path: Path, base: Path, run: str, **more: Any) -> Recipe:
    rows = ({"prompt": f"{n}+1", "chosen": f"{n + 1}", "rejected": f"{n + 2}"} for n in range(24))
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(path), "heldout": {"count": 6}},
        "training": {"steps": 3, "batch_size": 4, "packing": {"groups": 2}},
        "run": str(tmp_path / run),
        **more,
    }
    return validate(Recipe, Document("test", given, {}))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fits into memory."""
    monkeypatch.setattr(load, "IN_MEMORY", 1)
    monkeypatch.setattr(reference, "_WINDOW", 18)


@pytest.mark.parametrize("more", [{}, {"objective": {"kind": "kto"}}, {"objective": {"kind": "sft"}}], ids=str)
def test_the_run_is_the_same(tmp_path: Path, base: Path, request: pytest.FixtureRequest, more: dict[str, Any]) -> None:
    if more.get("objective") == {"kind": "sft"}:
        more = {**more, "data": {"train": str(tmp_path / "pairs.jsonl")}}
    train_recipe(recipe(tmp_path, base, "held", **more))
    request.getfixturevalue("small")
    train_recipe(recipe(tmp_path, base, "stored", **more))
    held, stored = ((tmp_path / run / "metrics.jsonl").read_text() for run in ("held", "stored"))
    assert held == stored
    assert list((tmp_path / "stored" / "data-cache").glob("*.arrow"))
    assert not (tmp_path / "held" / "data-cache").exists()


def test_a_column_on_disk_is_that_in_memory(
    tmp_path: Path, base: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(tmp_path, base, "held")
    train_recipe(made)
    monkeypatch.setattr(reference, "_WINDOW", 5)
    train_recipe(recipe(tmp_path, base, "windows"))
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("held", "windows")
    ]
    for one, other in zip(*lines, strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


def test_a_dry_run_fills_the_cache_that_the_run_uses(tmp_path: Path, base: Path, small: None) -> None:
    made = recipe(tmp_path, base, "run")
    told = dry_run(made)
    assert (told.rows["train"], told.rows["heldout"]) == (18, 6)
    folder = tmp_path / "run" / "data-cache"
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*")}
    assert dry_run(made).lines() == told.lines()
    train_recipe(made)
    assert stamps.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("*")}.items()


def test_training_refuses_what_the_check_refuses_and_tells_its_warnings(tmp_path: Path, base: Path) -> None:
    made, progress = recipe(tmp_path, base, "run", data={"train": str(tmp_path / "pairs.jsonl")}), Silent()
    path = tmp_path / "pairs.jsonl"
    rows = path.read_text()
    path.write_text(rows + rows.splitlines()[0] + "\n")
    read_dataset(made, made.objective, progress=progress)
    told = f"{path}: 1 × duplicate (row 25). `twofold data check {path}` shows what to do"
    assert progress.warnings == [told]
    path.write_text(rows + '{"prompt": "a", "chosen": ""}\n' + '{"prompt": ')
    with pytest.raises(DataError, match=r"pairs.jsonl:25, `rejected`: is missing(.|\n)*and 1 more error: "):
        train_recipe(made)
    assert not (tmp_path / "run").exists()


def test_what_is_read_from_disk_is_read_lazily(tmp_path: Path, base: Path, small: None) -> None:
    made = recipe(tmp_path, base, "run")
    records = read_dataset(made, made.objective)
    assert isinstance(records.train, MappedRows)
    assert isinstance(records.train.of, Subset)
    assert (len(records.train), len(list(records.heldout)), bool(records.generator)) == (18, 6, False)
