"""What a recipe may cost: its length, its values, its digits. Beyond it one short message with the place."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from twofold.config.load import LARGEST, MOST_DIGITS, MOST_VALUES, from_overrides, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError


def refused(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert time.process_time() - began < 10
    assert len(str(error.value)) < 500
    return str(error.value).replace(str(path), "recipe")


@pytest.mark.parametrize("levels", [5, 9, 26])
def test_aliases_of_aliases_are_counted(tmp_path: Path, levels: int) -> None:
    names = [chr(97 + n) for n in range(levels)]
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{n}: &{n} [{','.join([f'*{below}'] * 9)}]" for below, n in pairwise(names)]
    told = refused(tmp_path / "recipe.yaml", "\n".join(lines))
    assert "holds more than 50,000 values" in told
    assert told.startswith("recipe:1: ")


def test_an_alias_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: &a {b: 1}\nc: *a\nd: [*a, *a]\n")
    assert load_recipe(tmp_path / "recipe.yaml").data == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}
    many = "a: [" + "1, " * (MOST_VALUES - 3) + "1]"
    (tmp_path / "recipe.yaml").write_text(many)
    assert len(load_recipe(tmp_path / "recipe.yaml").data["a"]) == MOST_VALUES - 2


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: " + "[" * 1000, "a: " + "{b: " * 1000, "- " * 1000])
def test_what_is_nested_too_deeply_is_one_message(tmp_path: Path, text: str) -> None:
    assert "nested too deeply" in refused(tmp_path / "recipe.yaml", text)


def test_a_file_that_is_no_recipe_is_not_read_to_its_end(tmp_path: Path) -> None:
    assert "larger than any recipe" in refused(tmp_path / "recipe.yaml", "# " + "x" * LARGEST)
    with pytest.raises(RecipeError, match="larger than any recipe"):
        load_recipe("/dev/zero")


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "9" * (MOST_DIGITS + 1), "9_" * 60 + "9"])
def test_a_number_of_too_many_digits_is_one_short_message(tmp_path: Path, number: str) -> None:
    told = refused(tmp_path / "recipe.yaml", f"model: {{path: a}}\nseed: {number}\n")
    assert told == f"recipe:2: seed: a number of {len(number):,} digits is too large\n  → choose a smaller one"
    with pytest.raises(RecipeError, match="digits is too large") as error:
        from_overrides([f"seed={number}"])
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(("seed", "fits"), [(2**63 - 1, True), (-(2**63), True), (2**63, False), (10**99, False)])
def test_a_seed_has_64_bits(seed: int, fits: bool) -> None:
    document = from_overrides(["model.path=a", "data.train=b", f"seed={seed}"])
    if fits:
        assert validate(Recipe, document).seed == seed
        return
    with pytest.raises(RecipeError, match="seed: must be a number of 64 bits"):
        validate(Recipe, document)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size=1000001", "batch_size: must be ≤ 1000000"),
        (f"training.batch_size=1{'0' * 23}", "batch_size: must be ≤ 1000000"),
        ("training.epochs=.inf", "epochs: should be a finite number, not inf"),
        ("training.epochs=0", "epochs: must be > 0 and ≤ 1000000000"),
    ],
)
def test_a_step_and_a_run_have_an_end(override: str, message: str) -> None:
    document = from_overrides(["model.path=m", "data.train=rows.jsonl", override])
    with pytest.raises(RecipeError, match=message):
        validate(Recipe, document)
    validate(Recipe, from_overrides(["model.path=m", "data.train=rows.jsonl", "training.batch_size=1000000"]))
