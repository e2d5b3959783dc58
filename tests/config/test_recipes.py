"""Every recipe that we ship is one that twofold takes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.runs.tuning.settings import Budget, Entry, Figure, Rows, TuneSettings

ROOT = Path(__file__).parents[2]
FILES = sorted(p.relative_to(ROOT) for p in (ROOT / "recipes").rglob("*.yaml"))
TUNE = [path for path in FILES if "recipes" in load_recipe(ROOT / path).data]
SHIPPED = [path for path in FILES if path not in TUNE]


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_it_is_valid(path: Path) -> None:
    assert validate(Recipe, load_recipe(ROOT / path)).run.startswith("runs/")


def test_no_two_share_a_run_folder() -> None:
    runs = [validate(Recipe, load_recipe(ROOT / path)).run for path in SHIPPED]
    assert len(set(runs)) == len(runs) > 20


@pytest.mark.parametrize("path", TUNE, ids=str)
def test_a_tune_file_is_valid(path: Path) -> None:
    settings = validate(TuneSettings, load_recipe(ROOT / path))
    assert settings.out.startswith("runs/")
    for entry in settings.entries:
        assert (ROOT / path.parent / entry.recipe).relative_to(ROOT) in SHIPPED


def test_the_page_names_every_key_of_a_tune_file() -> None:
    page = (ROOT / "docs" / "tune.md").read_text(encoding="utf-8").partition("## Appendix")[2]
    keys = [field.name for cls in (TuneSettings, Entry, Rows, Figure, Budget) for field in fields(cls)]
    assert [key for key in keys if f"`{key}`" not in page] == []
