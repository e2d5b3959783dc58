"""A sum of objectives in a recipe: read, written and read again; faults named where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.config.first_look import look_at_recipe
from twofold.config.load import dump, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.objectives import DPO, SFT
from twofold.objectives.sum import Sum, Summand

HEAD = "model: {path: m}\ndata: {train: t.jsonl}\n"
PARTS = """objective:
  kind: sum
  parts:
    - {kind: dpo, beta: 0.5, weight: 0.8}
    - {kind: sft, weight: 0.2, on: chosen}
"""


def recipe(folder: Path, text: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return validate(Recipe, load_recipe(path))


def test_a_sum_is_read_and_written(tmp_path: Path) -> None:
    made = recipe(tmp_path, PARTS)
    assert made.objective == Sum(
        parts=(Summand(objective=DPO(beta=0.5), weight=0.8), Summand(objective=SFT(), weight=0.2, on="chosen"))
    )
    again = tmp_path / "again.yaml"
    again.write_text(dump(made), encoding="utf-8")
    assert validate(Recipe, load_recipe(again)) == made
    assert "{kind: " not in dump(made)
    assert "'on': chosen" in dump(made)
    assert repr(made.objective) == repr(validate(Recipe, load_recipe(again)).objective)


def test_an_override_changes_one_part(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + PARTS, encoding="utf-8")
    made = validate(Recipe, load_recipe(path, ["objective.parts.0.beta=2.0", "objective.parts.1.weight=3"]))
    assert made.objective == Sum(
        parts=(Summand(objective=DPO(beta=2.0), weight=0.8), Summand(objective=SFT(), weight=3.0, on="chosen"))
    )


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("beta: 0.5", "bta: 0.5", ":6", "objective.parts.0.bta"),
        ("kind: dpo", "kind: dop", ":6", "did you mean `dpo`?"),
        ("weight: 0.8", "weight: much", ":6", "objective.parts.0.weight"),
        ("weight: 0.8", "weight: -1", ":5", "weight must be > 0"),
        ("on: chosen", "on: top", ":7", "objective.parts.1.on"),
        ("on: chosen", "on: gold", ":5", "objective.parts: pairs have no side 'gold'"),
        ("kind: sft, weight: 0.2, on: chosen", "kind: kto", ":5", "dpo learns from pairs, kto from labels"),
        ("  kind: sum\n", "  kind: sum\n  beta: 1\n", ":5", "objective.beta: a sum has no such key"),
    ],
)
def test_faults_are_named_where_they_are(tmp_path: Path, old: str, new: str, where: str, what: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(tmp_path, PARTS.replace(old, new))
    assert what in str(error.value)
    assert where in str(error.value)


def test_parts_must_be_a_list(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected a list of sections"):
        recipe(tmp_path, "objective: {kind: sum}\n")


def test_the_first_look_leaves_a_sum_to_the_real_classes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text((HEAD + PARTS).replace("t.jsonl", str(path)), encoding="utf-8")
    (tmp_path / "m").mkdir()
    document = load_recipe(path, [f"model.path={tmp_path}"])
    look_at_recipe(document)
    document = load_recipe(path, ["objective.kind=sim"])
    with pytest.raises(RecipeError, match="sim"):
        look_at_recipe(document)
