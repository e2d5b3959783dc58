"""An objective of the user's own in a recipe: allowed first, found, then checked; each fault is told at its place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import twofold
from twofold.config.custom import own_kind
from twofold.config.load import dump, load_recipe, plain, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError

MODULE = """
from dataclasses import dataclass

from twofold.objectives.base import Loss, Term
from twofold.settings import require, settings


@settings
class Mine:
    beta: float = 0.1
    requires = ()

    def __post_init__(self):
        require(self.beta > 0, "beta must be > 0")

    def __call__(self, outputs, batch):
        return Loss({"mine": Term(batch.sum(outputs.logp_S), "branch")})


@settings
class Silent:
    beta: float = 0.1


@dataclass
class Loose:
    beta: float = 0.1
"""
RECIPE = "model: {path: base}\ndata: {train: pairs.jsonl}\nallow_code: true\nobjective:\n  kind: own_losses:Mine\n"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)


def read(folder: Path, text: str, *overrides: str) -> Any:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return validate(Recipe, load_recipe(path, overrides))


def test_a_class_named_by_its_module_is_the_objective(tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE, "objective.beta=0.5")
    assert repr(recipe.objective) == "Mine(beta=0.5)"
    assert isinstance(recipe.objective, twofold.Objective)
    assert plain(recipe)["objective"] == {"kind": "own_losses:Mine", "beta": 0.5}
    assert read(tmp_path, dump(recipe)) == recipe


def test_nothing_is_imported_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe.yaml:4: objective.kind: this would import own_losses") as caught:
        read(tmp_path, RECIPE.replace("allow_code: true\n", ""))
    assert "allow_code: true" in caught.value.remedy
    assert "own_losses" not in sys.modules
    allowed = read(tmp_path, RECIPE.replace("allow_code: true\n", ""), "allow_code=true")
    assert repr(allowed.objective) == "Mine(beta=0.1)"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("objective.kind=own_losses:Mien", "own_losses has no class 'Mien'\n  → did you mean `own_losses:Mine`?"),
        ("objective.kind=own_loses:Mine", "own_loses cannot be imported: ModuleNotFoundError: No module named 'own_lo"),
        ("objective.kind=own_loses:Mine", "install it, or put its folder on PYTHONPATH"),
        ("objective.kind=broken:Mine", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("objective.kind=own_losses:Loose", "Loose is no settings class\n  → put @settings"),
        ("objective.kind=own_losses:Silent", "Silent is no objective\n  → it needs `requires` and a `__call__"),
        ("objective.kind=json:dumps", "json has no class 'dumps'"),
        ("objective.btea=1", "objective.btea: unknown key\n  → did you mean `beta`?"),
        ("objective.beta=-1", "objective.beta: must be > 0"),
        ("objective.beta=much", "objective.beta: should be a valid number"),
    ],
)
def test_a_fault_is_one_clear_message(tmp_path: Path, override: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, RECIPE, override)
    message = str(caught.value)
    assert message.startswith(f"override `{override}`")
    assert expected in message
    assert len(message.splitlines()) <= 2


def test_only_strangers_are_named_by_module() -> None:
    assert own_kind(twofold.DPO()) is None
    assert own_kind(twofold.ModelSettings(path="base")) is None
