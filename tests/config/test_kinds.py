"""Sections with a `kind`: one typo is one complaint, and what Python hands over is taken or named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_type_hints

import pydantic
import pytest

import twofold
from twofold.config.introspect import bare, fields, is_choice, members
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.datagen.build import BuildSettings
from twofold.datagen.score import ScoreSettings
from twofold.errors import RecipeError
from twofold.settings import settings

BARE = {"model": {"path": "base"}, "data": {"train": "pairs.jsonl"}}


@dataclass
class Unknown:
    """Settings of no member of the union."""

    kind: str = "pdpoo"


def choices(type_: Any, path: str = "") -> list[str]:
    """The sections with a `kind` for which pydantic tries one member after the other."""
    loose: list[str] = []
    for member in members(bare(type_)):
        for name in fields(member):
            hint = get_type_hints(member, include_extras=True)[name]
            tagged = any(isinstance(m, pydantic.Discriminator) for m in getattr(hint, "__metadata__", ()))
            loose += [f"{path}.{name}"] if is_choice(hint) and not tagged else []
            loose += choices(hint, f"{path}.{name}")
    return loose


@pytest.mark.parametrize("type_", [Recipe, BuildSettings, ScoreSettings])
def test_every_kind_goes_straight_to_its_class(type_: Any) -> None:
    assert choices(type_) == []


def test_a_union_that_pydantic_would_try_through_is_found() -> None:
    @settings
    class Loose:
        objective: twofold.DPO | twofold.IPO

    assert choices(Loose) == [".objective"]


@pytest.mark.parametrize(("section", "keys"), [("objective", {"kind": "dpo", "btea": 1}), ("algorithm", {"kind": "x"})])
def test_one_typo_is_one_error_of_pydantic(section: str, keys: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(Recipe).validate_python({**BARE, section: keys})
    assert caught.value.error_count() == 1


def test_settings_from_python_are_taken_as_they_are() -> None:
    given = {"objective": twofold.IPO(), "algorithm": twofold.Online(judge="verifier")}
    recipe = validate(Recipe, Document("train()", {**BARE, **given}, {}))
    assert (recipe.objective, recipe.algorithm) == tuple(given.values())


@pytest.mark.parametrize(
    ("section", "given", "expected"),
    [
        ("algorithm", Unknown(), "algorithm.kind: unknown kind 'pdpoo'\n  → did you mean `pdpo`?"),
        ("algorithm", 3, "algorithm: expected a section of keys, not 3\n  → its keys are kind"),
        ("objective", twofold.DPO, "objective: expected a section of keys, not <class 'twofold.objectives.d"),
        ("objective", {"kind": ["dpo"]}, "objective.kind: unknown kind ['dpo']"),
        ("objective", {"kind": None}, "objective.kind: missing\n  → one of sft, dft"),
    ],
)
def test_anything_else_is_named(section: str, given: Any, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        validate(Recipe, Document("train()", {**BARE, section: given}, {}))
    assert str(caught.value).startswith(f"train(): {expected}")
