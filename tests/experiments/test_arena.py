"""The arena's pure parts: who plays, what identifies a cell, what a table says, how the questions choose."""

from __future__ import annotations

from dataclasses import fields, replace
from math import comb
from typing import Any, get_args

import pytest
import torch

from experiments.arena.base import Ground
from experiments.arena.cells import Cell, Protocol
from experiments.arena.counts import CountedSampler, Tokens
from experiments.arena.methods import METHODS, Method
from experiments.arena.questions import CONTENDERS, LOOKS, PLAIN, SOURCE, TRUTH, Place, best_place, chosen
from experiments.arena.table import accuracy_table, best_of_rows, pass_at, rows
from experiments.arena.tasks import TASKS, Stories, split_of
from experiments.harness.cells import folder_name
from support import tiny
from twofold.algorithms import PDPO
from twofold.batch import Branch, Group, Role
from twofold.config.load import Document, plain, validate
from twofold.config.schema import Recipe
from twofold.objectives.pdpo import Form, GeneratorSettings
from twofold.rewards.verifier import truth
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler

SHARED = {
    "kind": "the algorithm itself",
    "prompts": "part of the protocol; 2 × 4 samples vary it",
    "warmup": "the protocol's",
    "verdict": "the tasks ask for one form of answer",
    "drop_truncated": "the base hardly ever runs out of tokens",
    "turns": "of `in turn`, at its default",
}
"""Settings of PDPO that need no entry, and why."""


def test_every_option_of_pdpo_has_an_entry() -> None:
    played = [
        m.sections["algorithm"] for m in METHODS.values() if m.sections.get("algorithm", {}).get("kind") == "pdpo"
    ]
    for default, sections in ((PDPO(), played), (GeneratorSettings(), [a.get("generator", {}) for a in played])):
        for name in {f.name for f in fields(default)} - set(SHARED):
            assert any(name in a and a[name] != getattr(default, name) for a in sections), f"no entry plays {name}"
    assert {a.get("generator", {}).get("form", "hinge") for a in played} == set(get_args(Form))


def _recipe(method: Method) -> Recipe:
    sections: dict[str, Any] = {"model": {"path": "m"}, "data": {"train": "t", "generator": {"file": "g"}}}
    if method.sections.get("algorithm", {}).get("kind") != "pdpo":
        del sections["data"]["generator"]
    return validate(Recipe, Document("test", {**sections, **method.sections}, {}))


@pytest.mark.parametrize("method", [*METHODS.values(), *CONTENDERS], ids=lambda m: m.name)
def test_every_entry_is_a_recipe(method: Method) -> None:
    recipe = _recipe(method)
    for name, section in method.sections.items():
        for key, value in section.items():
            made = plain(getattr(getattr(recipe, name), key))
            assert {k: made[k] for k in value} == value if isinstance(value, dict) else made == value


def test_no_two_entries_are_the_same() -> None:
    seen = {repr((m.sections, m.reads)) for m in METHODS.values()}
    assert len(seen) == len(METHODS)


def test_a_cell_is_known_by_all_that_decides_it() -> None:
    protocol, cell = Protocol(), Cell(METHODS["DPO"], 1e-4, 0)
    key = cell.key(protocol, "ground")
    others = [
        replace(cell, method=METHODS["IPO"]), replace(cell, learning_rate=2e-4), replace(cell, seed=1),
        replace(cell, problems="confirmation"), replace(cell, looks=2), replace(cell, many=False),
        replace(cell, method=replace(cell.method, reads="problems")),
    ]  # fmt: skip
    keys = [o.key(protocol, "ground") for o in others]
    keys += [cell.key(replace(protocol, steps=41), "ground"), cell.key(protocol, "other ground")]
    keys += [cell.key(replace(protocol, ground=Ground(task="boxes")), "ground")]
    assert len({key, *keys}) == len(keys) + 1
    assert replace(cell, method=replace(cell.method, note="a word")).key(protocol, "ground") == key
    assert folder_name(cell, key) == f"dpo-0.0001-0-{key}"


@pytest.mark.parametrize("name", TASKS)
def test_stories_are_right_and_no_calculation_is_in_two_splits(name: str) -> None:
    stories = Stories(name)
    seen: dict[tuple[str, ...], str] = {}
    for split in ("base", "train", "generator", "development", "test", "confirmation"):
        for problem in stories.problems(split, 60):
            assert seen.setdefault(problem.steps, split) == split == split_of(list(problem.steps))
            for step in problem.steps:
                left, right = step.split("=")
                assert eval(left) == int(right)
            assert truth(problem.worked) == problem.steps[-1].split("=")[1]
    assert stories.problems("test", 20) == stories.problems("test", 40)[:20]


def test_pass_at_k_is_unbiased() -> None:
    for right in range(9):
        for k in (1, 3, 8):
            exact = 1 - comb(8 - right, k) / comb(8, k)
            assert pass_at([right], 8, k) == pytest.approx([exact])


def _result(right: list[bool], passed: list[int]) -> dict[str, Any]:
    look = {"step": 1, "accuracy": 0.75, "strict": sum(right) / len(right)}
    tokens = {"trained": 10, "sampled": 0, "judged": 5}
    return {"looks": [look], "right": right, "passed": passed, "kl": [0.5] * len(passed), "tokens": tokens}


def test_rows_pair_seeds_and_problems_with_dpo() -> None:
    dpo = [_result([True, False, False, False], [2, 0]), _result([True, True, False, False], [2, 1])]
    better = [_result([True, True, False, False], [4, 0]), _result([True, True, True, False], [4, 1])]
    about = {name: (METHODS[name], 1e-4) for name in ("DPO", "IPO")}
    base, first, second = rows({"DPO": dpo, "IPO": better}, _result([False] * 4, [1, 0]), 4, about)
    assert (base.name, first.name, second.name) == ("base", "DPO", "IPO")
    assert first.gain is None
    assert second.shares == [0.5, 0.75]
    assert second.gain is not None
    assert second.gain_over_seeds is not None
    assert second.gain.value == second.gain_over_seeds.value == pytest.approx(0.25)
    assert base.gain is not None
    assert base.gain.value == pytest.approx(-0.375)
    assert second.passed[1].value == pytest.approx((1.0 + 0.0 + 1.0 + 0.25) / 4)
    assert second.passed_gain[1].value == pytest.approx(second.passed[1].value - 0.125)
    assert second.p_holm is not None
    assert second.p_value is not None
    assert second.p_holm >= second.p_value
    assert accuracy_table([base, first, second])[1][4].startswith("−37.5 [")


def test_best_of_n_takes_the_best_score() -> None:
    found = best_of_rows([{"scores": [[0.0, 1.0]], "correct": [[1.0, 0.0]]}])
    assert [row["n"] for row in found] == [1, 2]
    assert [row["reward"].value for row in found] == [0.5, 0.0]
    assert [row["verifier"].value for row in found] == [0.5, 1.0]


def test_tokens_are_counted_where_they_pass() -> None:
    """A prompt of 3 with answers of 2 and 3 tokens: 3 + 1 + 2 go in, since nothing is asked after a last token."""
    policy, tokens = tiny.policy(), Tokens()
    branches = Branch(torch.tensor([7, 2]), Role.CHOSEN), Branch(torch.tensor([8, 9, 2]), Role.REJECTED)
    group = Group("g", torch.tensor([1, 5, 6]), branches)
    with tokens.counting():
        policy([group])
        policy.logps([group, group])
    policy([group])
    how = Sampling(max_new_tokens=4)
    CountedSampler(LocalSampler(policy.model, tiny.tokenizer(), (), how), tokens).sample([group.prompt], samples=2)
    assert tokens.as_dict() == {"trained": 6, "sampled": 3 + 2 * 4, "judged": 12}


def test_what_the_questions_choose() -> None:
    names = [m.name for m in CONTENDERS]
    looks = {(n, r): [0.5] * LOOKS for n in names for r in (1e-4, 1e-3)}
    looks["DPO", 1e-3] = [0.5, 0.8, 0.6, 0.2]
    looks["PDPO, γ 0.1", 1e-4] = [0.5, 0.6, 0.7, 0.9]
    looks["PDPO, γ 1", 1e-3] = [0.5, 0.6, 0.7, 0.8]
    assert best_place(looks, ["DPO"]) == Place("DPO", 1e-3, 1)
    assert best_place(looks, ["DPO + NLL"]) == Place("DPO + NLL", 1e-4, 0)
    found = chosen(looks)
    assert found["each at its best"] == [
        Place("PDPO, γ 0.1", 1e-4, 3),
        Place("DPO", 1e-3, 1),
        Place("DPO + NLL", 1e-4, 0),
    ]
    assert [p.method for p in found["longest and highest"]] == ["PDPO, γ 1", "DPO", "DPO + NLL"]
    assert {(p.learning_rate, p.look) for p in found["longest and highest"]} == {(1e-3, LOOKS - 1)}
    assert {(p.learning_rate, p.look) for p in found["the source's form, where it leads most"]} == {(1e-3, LOOKS - 1)}
    assert found["the source's form, where it leads most"][0].method == "PDPO, γ 1"
    assert [p.method for p in found["the reference-answer side, where it leads most"]] == [*TRUTH, *PLAIN]
    assert best_place(looks, SOURCE[:1], "DPO") == Place("PDPO, γ 0.1", 1e-4, 3)
    assert {*SOURCE, *TRUTH, *PLAIN} <= {*names}
