"""Keys of before the names changed: no error for one of them leaves its new name out."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.config.introspect import paths
from twofold.config.load import Document, validate
from twofold.config.renamed import RENAMED
from twofold.config.schema import Recipe
from twofold.datagen.build import BuildSettings
from twofold.errors import RecipeError

KINDS = {"algorithm.value": "policy_gradient", "algorithm.reference": "online", "algorithm": "pdpo",
         "objective": "pdpo_generator"}  # fmt: skip
SECTIONS = {"server": "sampling.server", "value": "algorithm.value", "supervise": "data.tokenize.supervise"}
KNOWN = {".".join(path) for type_ in (Recipe, BuildSettings) for path in paths(type_, ())}


def whole(old: str) -> str:
    """The key of a recipe that `old` is the end of."""
    first, dot, rest = old.partition(".")
    return SECTIONS.get(first, first) + dot + rest


def complaint(key: str, value: Any) -> list[str]:
    """What a recipe with this key, beside what it must have, is answered."""
    recipe: dict[str, Any] = {"model": {"path": "base"}, "data": {"train": "pairs.jsonl"}}
    here, (*sections, last) = recipe, key.split(".")
    for section in sections:
        here = here.setdefault(section, {})
    here[last] = value
    if kind := next((kind for start, kind in KINDS.items() if key.startswith(start)), None):
        recipe[sections[0]]["kind"] = kind
    with pytest.raises(RecipeError) as caught:
        validate(Recipe, Document("recipe.yaml", recipe, {}))
    return str(caught.value).splitlines()


@pytest.mark.parametrize("old", [old for old in RENAMED if old not in ("asking", "form=squared_hinge")])
def test_an_old_key_is_answered_with_its_new_name(old: str) -> None:
    key, _, value = whole(old).partition("=")
    became = f"renamed to {whole(old).removesuffix(old)}{RENAMED[old]}"
    expected = became if RENAMED[old] else "removed: it changed nothing measurable (docs/log.md)"
    assert f"recipe.yaml: {key}: {expected}" in complaint(key, value or 1)


@pytest.mark.parametrize("new", [new for new in RENAMED.values() if new])
def test_a_new_name_is_a_key(new: str) -> None:
    """γ's ramp is an entry of a mapping, and values are no keys."""
    key = new.partition(":")[0].partition("=")[0]
    known = {*KNOWN, *(f"{path}.gamma" for path in KNOWN if path.endswith("algorithm.ramp"))}
    assert any(f".{path}".endswith(f".{key}") for path in known)


def test_a_removed_form_is_said_to_be_removed() -> None:
    lines = complaint("algorithm.generator.form", "squared_hinge")
    assert lines == ["recipe.yaml: algorithm.generator.form: removed: it changed nothing measurable (docs/log.md)"]


def test_old_keys_of_data_build_have_new_names_too() -> None:
    with pytest.raises(RecipeError, match=r"asking: renamed to retry"):
        validate(BuildSettings, Document("settings", {"asking": {"parallel": 4}}, {}))


def test_a_recipe_full_of_old_keys_is_ten_lines() -> None:
    recipe: dict[str, Any] = {"model": {"path": "base"}, "data": {"train": "p.jsonl", "tokenize": {"supervise": "all"}}}
    recipe["algorithm"] = {"kind": "pdpo", "sign": "up", "form": "hinge", "gamma_ramp": 0.5, "refresh_every": 2}
    recipe |= {"reference": {"mix": 0.5, "every": 2}, "optimizer": {"final": 0}, "training": {"keep": 1, "best": "x"}}
    with pytest.raises(RecipeError) as caught:
        validate(Recipe, Document("recipe.yaml", recipe, {}))
    lines = str(caught.value).splitlines()
    assert lines[0] == "recipe.yaml: data.tokenize.supervise: renamed to data.tokenize.loss_on"
    assert lines[-1] == "… and 2 more"
    assert len(lines) == 9


def test_a_name_that_never_was_is_no_old_one() -> None:
    assert complaint("training.checkpoint", 1)[0] == "recipe.yaml: training.checkpoint: unknown key"
