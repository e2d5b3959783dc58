"""Every recipe that we ship is one that twofold takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(p.relative_to(ROOT) for p in (ROOT / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_it_is_valid(path: Path) -> None:
    assert validate(Recipe, load_recipe(ROOT / path)).run.startswith("runs/")


def test_no_two_share_a_run_folder() -> None:
    runs = [validate(Recipe, load_recipe(ROOT / path)).run for path in SHIPPED]
    assert len(set(runs)) == len(runs) > 20
