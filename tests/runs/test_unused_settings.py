"""A valid setting that changes nothing is a warning with its remedy; shipped recipes have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.runs.unused_settings import unused_settings

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/**/*.yaml"))


def warnings(steps: int = 100, **sections: Any) -> list[str]:
    data = {"model": {"path": "m"}, "data": {"train": "pairs.jsonl"}, **sections}
    return list(unused_settings(validate(Recipe, Document("r.yaml", data, {})), steps, 3))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"data": {"train": "pairs.jsonl", "generator": {"count": 3}}},
            "data.generator: 3 rows of data.train are not trained on: algorithm offline has no generator",
        ),
        ({"sampling": {"max_new_tokens": 64}}, "sampling has no effect: algorithm offline draws no samples"),
        ({"reference": {"kind": "live", "cache": "c"}}, "reference.cache has no effect with kind: live"),
        (
            {"reference": {"kind": "moving", "sync_every": 101}},
            "reference.sync_every is 101, and the run has 100 steps: the reference model never moves",
        ),
        ({"model": {"path": "m", "recompute_every": 2}}, "model.recompute_every has no effect without"),
    ],
)
def test_a_setting_without_effect_is_a_warning(sections: dict[str, Any], message: str) -> None:
    (warning,) = warnings(**sections)
    assert warning.startswith(message)
    assert " → " in warning


@pytest.mark.parametrize("key", ["split", "stream"])
def test_a_file_has_no_splits_and_is_not_streamed(tmp_path: Path, key: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.touch()
    value = {"split": "test", "stream": True}[key]
    one, two = {"train": str(file), key: value}, {"train": [{"file": str(file), key: value}]}
    words = f"data.{key} has no effect: {file} is one file → leave it out"
    assert (warnings(data=one), warnings(data=two)) == ([words], [words])
    assert warnings(data={"train": "owner/name", key: value}) == []


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"algorithm": {"kind": "pdpo"}, "sampling": {"max_new_tokens": 64},
         "data": {"train": "pairs.jsonl", "generator": {"count": 3}}},
        {"reference": {"kind": "moving", "sync_every": 100}},
        {"reference": {"cache": "c"}},
        {"model": {"path": "m", "recompute_every": 2, "activation_checkpointing": True}},
    ],
)  # fmt: skip
def test_a_setting_that_is_used_is_none(sections: dict[str, Any]) -> None:
    assert warnings(**sections) == []


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_shipped_recipes_use_all_their_settings(file: Path) -> None:
    document = load_recipe(file, [])
    if "recipes" not in document.data:
        assert list(unused_settings(validate(Recipe, document), 10**6, 1)) == []
