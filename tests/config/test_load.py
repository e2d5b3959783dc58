"""Recipes: what is read is what was written, and every mistake names its place."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.config.load import dump, from_overrides, load_recipe, validate
from twofold.errors import RecipeError
from twofold.settings import require, settings


@settings
class Dpo:
    kind: Literal["dpo"] = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")


@settings
class Sft:
    kind: Literal["sft"] = "sft"
    average: Literal["token", "sequence"] = "token"


@settings
class Optimizer:
    learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.95)


@settings
class Files:
    path: Path
    limit: int | None = None
    columns: dict[str, str] = field(default_factory=dict)


Tagged = Annotated[Dpo | Sft, pydantic.Field(discriminator="kind")]


@settings
class Recipe:
    objective: Tagged
    steps: int
    extra: Tagged = Sft()
    optimizer: Optimizer = Optimizer()
    choice: Tagged | None = None
    slow: Optimizer = Optimizer(learning_rate=1e-9)
    data: tuple[Files, ...] = ()
    precision: Literal["auto", "bf16"] | float = "auto"
    note: str | None = None


GOOD = """\
objective:
  kind: dpo
  beta: 1e-1
steps: 20
optimizer:
  learning_rate: 5e-7
data:
  - path: a.jsonl
    columns: {prompt: question}
"""


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        validate(Recipe, load_recipe(path, overrides))
    message = str(caught.value)
    assert len(message.splitlines()) <= 10
    return message.replace(f"{path.parent}/", "")


def test_a_recipe_becomes_settings(tmp_path: Path) -> None:
    recipe = validate(Recipe, load_recipe(write(tmp_path, GOOD)))
    assert recipe == Recipe(
        objective=Dpo(beta=0.1),
        steps=20,
        optimizer=Optimizer(learning_rate=5e-7),
        data=(Files(path=Path("a.jsonl"), columns={"prompt": "question"}),),
    )


def test_overrides_are_yaml_and_reach_into_lists(tmp_path: Path) -> None:
    overrides = ["objective.beta=2e-1", "optimizer.betas=[0.9, 0.99]", "data.0.limit=3", "note=12", "extra={kind: dpo}"]
    recipe = validate(Recipe, load_recipe(write(tmp_path, GOOD), [*overrides, "note='1e-3'"]))
    assert recipe.objective == Dpo(beta=0.2)
    assert recipe.optimizer.betas == (0.9, 0.99)
    assert recipe.data[0].limit == 3
    assert (recipe.note, recipe.extra) == ("1e-3", Dpo())


def test_overrides_alone_make_settings() -> None:
    assert validate(Optimizer, from_overrides(["learning_rate=1e-3"])) == Optimizer(learning_rate=1e-3)


def test_a_section_keeps_its_own_defaults(tmp_path: Path) -> None:
    overrides = ["slow.betas=[0.5, 0.5]", "extra.average=sequence", "extra={average: sequence}"]
    recipe = validate(Recipe, load_recipe(write(tmp_path, GOOD), overrides))
    assert recipe.slow == Optimizer(learning_rate=1e-9, betas=(0.5, 0.5))
    assert recipe.extra == Sft(average="sequence")


def test_another_kind_brings_its_own_defaults(tmp_path: Path) -> None:
    recipe = validate(Recipe, load_recipe(write(tmp_path, GOOD), ["extra.kind=dpo", "choice.kind=sft"]))
    assert (recipe.extra, recipe.choice) == (Dpo(), Sft())


def test_extends_puts_one_recipe_over_another(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "base.yaml")
    document = load_recipe(write(tmp_path, "extends: base.yaml\nobjective:\n  beta: 0.3\n"))
    assert validate(Recipe, document).objective == Dpo(beta=0.3)
    assert document.place(("steps",)).endswith("base.yaml:4")
    assert document.place(("objective", "beta")).endswith("recipe.yaml:3")


def test_a_section_of_another_kind_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "base.yaml")
    recipe = validate(Recipe, load_recipe(write(tmp_path, "extends: base.yaml\nobjective: {kind: sft}\n")))
    assert recipe.objective == Sft()


def test_extends_goes_one_level_only(tmp_path: Path) -> None:
    write(tmp_path, "extends: other.yaml\n", "base.yaml")
    assert "recipe.yaml:1: extends: base.yaml itself extends" in complaint(write(tmp_path, "extends: base.yaml\n"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("beta", "btea", "recipe.yaml:3: objective.btea: unknown key\n  → did you mean `beta`?"),
        ("kind: dpo", "kind: dpoo", "recipe.yaml:2: objective.kind: unknown kind 'dpoo'\n  → did you mean `dpo`?"),
        ("  kind: dpo\n", "", "recipe.yaml:1: objective.kind: missing\n  → one of dpo, sft"),
        ("  beta: 1e-1", "  beta: much", "recipe.yaml:3: objective.beta: should be a valid number"),
        ("  beta: 1e-1", "  beta: -1", "recipe.yaml:3: objective.beta: must be > 0"),
        ("steps: 20\n", "", "recipe.yaml: steps: missing"),
        ("steps: 20", "steps: 2.5", "recipe.yaml:4: steps: should be a valid integer"),
        ("  beta: 1e-1", "  learning_rate: 1", "3: objective.learning_rate: unknown key\n  → did you mean `optimizer"),
        ("- path: a.jsonl", "- paht: a.jsonl", "recipe.yaml:8: data.0.paht: unknown key\n  → did you mean `path`?"),
        ("  learning_rate: 5e-7", "  - 1", "recipe.yaml:5: optimizer: expected a section of keys, not [1]"),
        ("objective:\n  kind: dpo\n  beta: 1e-1", "objective: dpo", "yaml:1: objective: expected a section of keys"),
        ("steps: 20", "steps: 20\nsteps: 21", "recipe.yaml:5: steps: given twice"),
        ("steps: 20", "steps: 20\nextra: {kind: dpo, btea: 1}", "5: extra.btea: unknown key\n  → did you mean `beta`"),
        ("steps: 20", "steps: 20\nextra: {kind: ipo}", "recipe.yaml:5: extra.kind: unknown kind 'ipo'"),
        ("steps: 20", "steps: 20\nextra: {beta: x}", "5: extra.beta: unknown key of sft (known to dpo)\n  → take"),
        ("steps: 20", "steps: 20\nchoice: {beta: 1}", "recipe.yaml:5: choice.kind: missing\n  → one of dpo, sft"),
        ("steps: 20", "steps: 20\nextra: sft", "recipe.yaml:5: extra: expected a section of keys, not 'sft'"),
        ("steps: 20", "steps: 20\nprecision: fp8", "recipe.yaml:5: precision: should be 'auto' or 'bf16', not 'fp8'"),
        ("  beta", "\tbeta", "recipe.yaml:3: a tab where YAML wants spaces\n  → indent with spaces"),
        ("  beta: 1e-1", "  beta: [1", "recipe.yaml:4: not valid YAML"),
        ("  beta: 1e-1", "  beta: !!python/name:os.system x", "not valid YAML: could not determine a constructor"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in complaint(write(tmp_path, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("objective.btea=1", "override `objective.btea=1`: objective.btea: unknown key\n  → did you mean `beta`?"),
        ("objective.beta=x", "override `objective.beta=x`: objective.beta: should be a valid number"),
        ("steps", "override `steps`: expected key=value"),
        ("steps.more=1", "override `steps.more=1`: steps is a value, not a section"),
        ("data.7.path=x", "override `data.7.path=x`: data is a list of 1"),
        ("note=[", "override `note=[`:1: not valid YAML"),
    ],
)
def test_a_mistake_in_an_override_names_the_override(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in complaint(write(tmp_path, GOOD), override)


def test_many_mistakes_make_one_short_message(tmp_path: Path) -> None:
    text = complaint(write(tmp_path, "objective: {kind: dpo, a: 1, b: 2, c: 3, d: 4, e: 5}\n"))
    assert text.count("unknown key") == 4
    assert text.splitlines()[-1] == "… and 2 more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "recipe.yaml: is empty"), ("- 1\n", "recipe.yaml: holds no keys"), ("just text\n", "holds no keys")],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in complaint(write(tmp_path, text))


def test_a_missing_recipe_is_named_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "gsm8k_small.yaml")
    with pytest.raises(RecipeError, match=r"gsm8k_smal.yaml: no such recipe\n  → did you mean `.*gsm8k_small.yaml`"):
        load_recipe(tmp_path / "gsm8k_smal.yaml")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        load_recipe(tmp_path / "recipe.yaml")


def test_a_recipe_that_holds_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nested too deeply"):
        load_recipe(write(tmp_path, "a: &a\n  b: *a\n"))


def test_dump_gives_equal_settings_back(tmp_path: Path) -> None:
    recipe = Recipe(
        objective=Dpo(beta=1e-7), steps=3, data=(Files(path=Path("x y.jsonl"), columns={"a": "no"}),), note="1e-3"
    )
    assert validate(Recipe, load_recipe(write(tmp_path, dump(recipe)))) == recipe


@given(text=st.text(max_size=20), number=st.floats(allow_nan=False, width=64), whole=st.integers())
def test_any_text_and_number_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, text: str, number: float, whole: int
) -> None:
    path = write(tmp_path_factory.mktemp("dump"), dump({"text": text, "number": number, "whole": whole}))
    assert load_recipe(path).data == {"text": text, "number": number, "whole": whole}
