"""Nothing joins the union by halves: every member has a source, a golden value, a table that learns by it, a page and a
recipe."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from experiments.family.methods import applies
from support.pair_vectors import MADE
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.objectives import AnyObjective, OnPairs, PDPOGenerator
from twofold.objectives.base import Objective

MEMBERS = get_args(AnyObjective)
EVERY = pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m().kind)


def kind(member: type[Any]) -> str:
    return member().kind


def source(member: type[Any]) -> str:
    """The text of the file that the member stands in, and of the pieces that it may put together."""
    module = Path(str(sys.modules[member.__module__].__file__))
    pieces = ("pairs", "rankings", "comparisons", "pair_scores", "pair_losses", "aux_terms", "surrogate", "advantages")
    paths = module, *(module.with_name(f"{name}.py") for name in pieces)
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_kinds_are_the_names_of_files() -> None:
    for member in MEMBERS:
        name = member.__module__.rpartition(".")[2]
        assert kind(member) in (name, f"{name}_generator")


@EVERY
def test_its_file_names_the_paper(member: type[Any]) -> None:
    """PDPO has none: its source is a repository."""
    doc = sys.modules[member.__module__].__doc__ or ""
    names = r"github\.com/newtonysls/PDPO" if member is PDPOGenerator else r"arXiv:\d{4}\.\d{5}"
    assert re.search(names, doc)
    assert member.__doc__
    assert isinstance(member(), Objective)


@cache
def functions() -> list[ast.FunctionDef]:
    """The tests of this folder as they are written."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*.py")]
    return [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]


def names(test: ast.FunctionDef) -> set[str]:
    """What a test names, but what its parameters leave out."""
    compared = [node for mark in test.decorator_list for node in ast.walk(mark) if isinstance(node, ast.Compare)]
    left_out = {n.id for node in compared for n in ast.walk(node) if isinstance(n, ast.Name)}
    return {node.id for node in ast.walk(test) if isinstance(node, ast.Name)} - left_out


@EVERY
def test_it_has_a_golden_value(member: type[Any]) -> None:
    """A vector of golden.json, or a test called `test_KIND_by_hand` that derives a value in its docstring."""
    vectors = {type(make(_Any())) for make in MADE.values()}
    read = [test for test in functions() if {member.__name__, "expected"} <= names(test)]
    by_hand = [ast.get_docstring(test) or "" for test in functions() if test.name == f"test_{kind(member)}_by_hand"]
    assert member in vectors or read or any("=" in text for text in by_hand)


@EVERY
def test_a_table_learns_by_it(member: type[Any]) -> None:
    """Some test that is called so by its name, and uses the member, or all objectives on pairs."""
    learning = [test for test in functions() if re.search("_learns?_", test.name)]
    mine = {member.__name__, *(["OnPairs"] if member in get_args(OnPairs) else [])}
    asserting = [test for test in learning if any(isinstance(node, ast.Assert) for node in ast.walk(test))]
    assert any(mine & names(test) for test in asserting), f"no test_…_learns_… of this folder uses {member.__name__}"


class _Any(dict[str, float]):
    """Settings of a vector, whatever they are called; every domain on pairs holds ¼."""

    def __missing__(self, key: str) -> float:
        return 0.25


@EVERY
def test_its_page(member: type[Any], root: Path) -> None:
    """One screen: the paper, the code as it stands, every setting with its default, and TRL."""
    page = (root / "docs" / "objectives" / f"{kind(member)}.md").read_text(encoding="utf-8")
    assert page.count("\n") <= 60
    cited = set(re.findall(r"arXiv:\d{4}\.\d{5}", sys.modules[member.__module__].__doc__ or ""))
    assert cited <= set(re.findall(r"arXiv:\d{4}\.\d{5}", page))
    table, _, rest = page.partition("**Settings**")
    code = [row.rpartition(" | `")[2].removesuffix("` |") for row in table.splitlines() if row.endswith("` |")]
    assert code
    text = source(member)
    assert [line for line in code if line not in text] == []
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", rest, re.MULTILINE))
    assert rows == {f.name: written(f.default) for f in fields(member) if f.name != "kind"}
    assert "**What to watch.**" in rest
    assert "**Next to TRL 1.16.**" in rest


def written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


@EVERY
def test_its_curve(member: type[Any], root: Path) -> None:
    """Its run on the demo task, once drawn: `python -m experiments.family --only KIND --curves FOLDER`. Objectives
    that `applies` leaves out (drafts, reward heads, rated rows, running averages) have none."""
    folder, name = root / "docs" / "objectives", kind(member)
    curve = folder / "curves" / f"{name}.svg"
    shown = re.findall(r"!\[[^]]+\]\(curves/(\w+)\.svg\)", (folder / f"{name}.md").read_text(encoding="utf-8"))
    assert shown == ([name] if curve.is_file() else [])
    if curve.is_file():
        assert applies(member())
        drawing = curve.read_bytes()
        assert len(drawing) <= 30_000
        assert drawing.count(b"<polyline") == (4 if name == "dpo" else 8)
        assert b"prefers-color-scheme: dark" in drawing


def test_pages_are_those_of_the_union(root: Path) -> None:
    """docs/recipe.md lists them; `test_recipe_page.py` keeps it fresh."""
    folder = root / "docs" / "objectives"
    assert {p.stem for p in folder.glob("*.md")} == {*map(kind, MEMBERS), "README", "derivation"}


@EVERY
def test_its_recipe(member: type[Any], root: Path) -> None:
    recipe = validate(Recipe, load_recipe(root / "recipes" / "objectives" / f"{kind(member)}.yaml"))
    if member is PDPOGenerator:
        assert recipe.algorithm.kind == "pdpo"
    else:
        assert isinstance(recipe.objective, member)
        assert (recipe.algorithm.kind == "policy_gradient") == (recipe.objective.data_kind == "prompts")
    assert recipe.run == f"runs/objectives/{kind(member)}"


def test_recipes_are_those_of_the_union(root: Path) -> None:
    assert {p.stem for p in (root / "recipes" / "objectives").glob("*.yaml")} == {*map(kind, MEMBERS), "base"}
    validate(Recipe, load_recipe(root / "recipes" / "objectives" / "base.yaml"))
