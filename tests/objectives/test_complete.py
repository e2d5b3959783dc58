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

from benchmarks import family
from support.pair_vectors import ELSEWHERE, MADE
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.objectives import (
    BCO,
    GRPO,
    KTO,
    NCAK,
    PPO,
    RLOO,
    SFT,
    TPO,
    AnyObjective,
    BradleyTerry,
    DiscoPOP,
    InfoNCA,
    OnPairs,
    PDPOGenerator,
    PlackettLuce,
    Reinforce,
    RewardPlackettLuce,
)
from twofold.objectives.base import Objective, data_kind

MEMBERS = get_args(AnyObjective)
EVERY = pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m().kind)
BY_HAND = {
    SFT: "test_golden.test_sft_by_hand",
    PDPOGenerator: "test_golden.test_pdpo_generator_by_hand",
    TPO: "test_tpo.test_by_hand",
    PlackettLuce: "test_plackett_luce.test_by_hand",
    InfoNCA: "test_infonca.test_infonca_by_hand",
    NCAK: "test_infonca.test_nca_by_hand",
    KTO: "test_kto.test_by_hand",
    BCO: "test_bco.test_by_hand",
    PPO: "test_rollouts_golden.test_ppo_by_hand",
    GRPO: "test_rollouts_golden.test_grpo_by_hand",
    RLOO: "test_rollouts_golden.test_rloo_by_hand",
    Reinforce: "test_rollouts_golden.test_reinforce_by_hand",
    BradleyTerry: "test_reward_objectives.test_bradley_terry_by_hand",
    RewardPlackettLuce: "test_reward_objectives.test_plackett_luce_by_hand",
}
LEARNS: dict[type[Any], str] = {
    **dict.fromkeys(get_args(OnPairs), "test_tabular_pairs.test_chosen_gains_on_rejected"),
    DiscoPOP: "test_tabular_pairs.test_discopop_turns_at_two_margins",
    SFT: "test_tabular.test_sft_learns_what_is_shown",
    PDPOGenerator: "test_tabular.test_the_generator_lifts_an_under_rated_draft_to_the_truth_and_no_further",
    TPO: "test_tpo.test_a_table_learns_gold_and_chosen_over_rejected",
    PlackettLuce: "test_plackett_luce.test_a_table_learns_the_order",
    InfoNCA: "test_infonca.test_a_table_learns_the_scores",
    NCAK: "test_infonca.test_a_table_learns_the_scores",
    KTO: "test_kto.test_a_table_learns_what_is_good",
    BCO: "test_bco.test_a_table_learns_what_is_good",
    PPO: "test_bandit.test_with_the_kl_in_the_reward_they_reach_the_optimum",
    RLOO: "test_bandit.test_with_the_kl_in_the_reward_they_reach_the_optimum",
    Reinforce: "test_bandit.test_with_the_kl_in_the_reward_they_reach_the_optimum",
    GRPO: "test_bandit.test_grpo_reaches_its_own_fixed_point",
    BradleyTerry: "test_reward_objectives.test_a_table_of_scores_learns_the_order",
    RewardPlackettLuce: "test_reward_objectives.test_a_table_of_scores_learns_the_order",
}
"""The test in which a table of logits, or of scores, learns by the member."""


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
def functions() -> dict[str, ast.FunctionDef]:
    """The tests of this folder: `FILE.NAME` and the function as it is written."""
    found = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found[f"{path.stem}.{node.name}"] = node
    return found


def test_every_member_has_a_golden_value() -> None:
    """A vector of golden.json, or a test that derives one in its docstring."""
    made = {type(make(_Any())) for make in MADE.values()}
    assert made | set(ELSEWHERE) == set(get_args(OnPairs))
    assert {f"test_pairs_golden.{name}" for name in ELSEWHERE.values()} <= set(functions())
    assert set(BY_HAND) == set(MEMBERS) - set(get_args(OnPairs))
    for name in BY_HAND.values():
        assert "=" in (ast.get_docstring(functions()[name]) or "")


@EVERY
def test_a_table_learns_by_it(member: type[Any]) -> None:
    """The test that stands for the member in LEARNS uses it by name, or runs all objectives on pairs."""
    nodes = list(ast.walk(functions()[LEARNS[member]]))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert member.__name__ in names or (member in get_args(OnPairs) and "OnPairs" in names)
    assert any(isinstance(node, ast.Assert) for node in nodes)


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
    """Its run on the demo task, where `family.applies`: it asks for log-probabilities and the reference alone. Others
    (drafts, reward heads, rated rows, running averages) have none there, and show none."""
    folder, name = root / "docs" / "objectives", kind(member)
    page = (folder / f"{name}.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^]]+\]\(curves/(\w+)\.svg\)", page)
    assert shown == ([name] if family.applies(member()) else [])
    for curve in shown:
        drawing = (folder / "curves" / f"{curve}.svg").read_bytes()
        assert len(drawing) <= 30_000
        assert drawing.count(b"<polyline") == (4 if name == "dpo" else 8)
        assert b"prefers-color-scheme: dark" in drawing


def test_pages_are_those_of_the_union_and_listed(root: Path) -> None:
    folder = root / "docs" / "objectives"
    assert {p.stem for p in folder.glob("*.md")} == {*map(kind, MEMBERS), "README", "derivation"}
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\)", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(a for a, _ in listed) == sorted(b for _, b in listed) == sorted(map(kind, MEMBERS))


@EVERY
def test_its_recipe(member: type[Any], root: Path) -> None:
    recipe = validate(Recipe, load_recipe(root / "recipes" / "objectives" / f"{kind(member)}.yaml"))
    if member is PDPOGenerator:
        assert recipe.algorithm.kind == "pdpo"
    else:
        assert isinstance(recipe.objective, member)
        assert (recipe.algorithm.kind == "policy_gradient") == (data_kind(recipe.objective) == "prompts")
    assert recipe.run == f"runs/objectives/{kind(member)}"


def test_recipes_are_those_of_the_union(root: Path) -> None:
    assert {p.stem for p in (root / "recipes" / "objectives").glob("*.yaml")} == {*map(kind, MEMBERS), "base"}
    validate(Recipe, load_recipe(root / "recipes" / "objectives" / "base.yaml"))
