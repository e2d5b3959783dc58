"""Recipes of an installation are read by the names that they have in the repository."""

from __future__ import annotations

import sysconfig
import tomllib
from pathlib import Path

import pytest

from twofold.config.load import load_recipe
from twofold.config.shipped import shipped


@pytest.fixture
def installed(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with the recipes of objectives, and an empty folder to work in."""
    prefix, here = tmp_path / "prefix", tmp_path / "here"
    here.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(prefix))
    monkeypatch.chdir(here)
    folder = prefix / "share" / "twofold" / "recipes" / "objectives"
    folder.mkdir(parents=True)
    for path in (root / "recipes" / "objectives").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_recipe_of_the_installation_is_found_by_its_name(installed: Path) -> None:
    name = Path("recipes/objectives/ipo.yaml")
    assert shipped(name) == installed / "ipo.yaml"
    assert load_recipe(shipped(name)).data["objective"]["kind"] == "ipo"
    name.parent.mkdir(parents=True)
    name.write_text("model: {path: mine}", encoding="utf-8")
    assert shipped(name) == name  # a file of one's own goes first


@pytest.mark.parametrize("name", ["recipes/objectives/none.yaml", "objectives/ipo.yaml", "recipes/../recipes/x.yaml"])
def test_any_other_name_stays_as_it_is(installed: Path, name: str) -> None:
    assert shipped(Path(name)) == Path(name)


def test_every_file_of_recipes_is_installed(root: Path) -> None:
    tables = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    for place, patterns in tables.items():
        assert all(Path(pattern).parent == Path(place).relative_to("share/twofold") for pattern in patterns)
    named = {path for patterns in tables.values() for pattern in patterns for path in root.glob(pattern)}
    assert named == {path for path in (root / "recipes").rglob("*") if path.is_file()}
