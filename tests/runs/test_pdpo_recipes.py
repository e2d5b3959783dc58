"""PDPO's options from a recipe to the run: what is shipped, what is judged, what is refused before the first step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from support.pdpo_runs import lines, recipe, rows
from twofold.algorithms import PDPO
from twofold.algorithms.pdpo import PDPOAlgorithm
from twofold.algorithms.schedules import Ramp
from twofold.batch import Branch, Group, Role
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError
from twofold.judges.gates import GateSettings
from twofold.models.load import load_policy
from twofold.models.reference import ReferenceSettings
from twofold.objectives import DPO
from twofold.objectives.pdpo import GeneratorSettings
from twofold.progress import Silent
from twofold.runs.build import build_trainer
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset
from twofold.runs.train import train_recipe

ROOT = Path(__file__).parents[2]
OPTIONS: dict[str, dict[str, Any]] = {
    "gate": {"generator": {"gate": "verifier"}},
    "judge_gate": {
        "generator": {"gate": "judge"},
        "judge": GateSettings(source="llm:http://127.0.0.1:8000/v1#judge"),
    },
    "leave_one_out": {"generator": {"baseline": "leave_one_out"}, "prompts": 2, "samples": 4},
    "several_drafts": {"prompts": 2, "samples": 4},
    "refresh": {"reuse_steps": 4},
    "clip": {"generator": {"clip": 0.2}, "reuse_steps": 4},
    "margin": {"generator": {"margin": 0.1}},
    "unhinged": {"generator": {"form": "unhinged"}},
    "softplus": {"generator": {"form": "softplus"}},
    "square": {"generator": {"form": "square"}},
    "per_token": {"generator": {"per_token": True}, "gamma": 10.0},
    "sign_down": {"generator": {"direction": "down", "form": "softplus"}},
    "truth": {"generator": {"gradient_to": "truth"}},
    "spin": {"generator": {"gradient_to": "both", "direction": "down", "form": "softplus"}},
    "kl": {"generator": {"kl": 0.01}},
    "gamma_ramp": {"gamma": 0.0, "ramp": {"gamma": Ramp(to=0.1, over=0.5)}},
    "alternate": {"schedule": "alternate"},
    "nll": {},
    "ema_reference": {},
}
"""What a recipe changes of the algorithm."""
ELSEWHERE: dict[str, dict[str, Any]] = {
    "nll": {"objective": DPO(nll=0.2)},
    "ema_reference": {"reference": ReferenceSettings(kind="moving", alpha=0.6, sync_every=64)},
}
"""What it changes of the other sections."""
AMOUNTS = {"kind", "generator", "warmup", "turns", "verdict", "gate_average", "drop_truncated"}
"""Settings that say how much, or how another option is meant: no options by themselves."""


def settings(changed: Mapping[str, Any]) -> PDPO:
    return PDPO(**{**changed, "generator": GeneratorSettings(**changed.get("generator", {}))})


def shipped(name: str) -> Recipe:
    return validate(Recipe, load_recipe(ROOT / "recipes" / "pdpo" / f"{name}.yaml"))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_recipe_turns_on_the_option_of_its_name_alone(name: str) -> None:
    """Next to the recipe of PDPO as it is by default."""
    found, plain = shipped(name), replace(shipped("margin"), algorithm=PDPO())
    assert found.algorithm == settings(OPTIONS[name])
    assert found == replace(plain, algorithm=found.algorithm, run=f"runs/pdpo/{name}", **ELSEWHERE.get(name, {}))


@pytest.mark.parametrize("cls", [PDPO, GeneratorSettings])
def test_every_setting_and_every_choice_has_a_recipe(cls: type[PDPO | GeneratorSettings]) -> None:
    """A new setting is an option with a recipe of its own, or named above to be none."""
    recipes = [settings(changed) for changed in OPTIONS.values()]
    played = recipes if cls is PDPO else [recipe.generator for recipe in recipes]
    hints = get_type_hints(cls)
    for each in fields(cls):
        used = {repr(getattr(recipe, each.name)) for recipe in (*played, cls())}
        hint = hints[each.name]
        choices = {repr(choice) for choice in get_args(hint)} if get_origin(hint) is Literal else set()
        if each.name in AMOUNTS:
            assert len(used) == 1 or each.name == "generator", f"{each.name} has a recipe: it is no mere amount"
        elif choices:
            assert used == choices, f"{each.name}: no recipe has {choices - used}"
        else:
            assert len(used) > 1, f"no recipe changes {each.name}"


def test_the_page_names_every_recipe_and_every_setting() -> None:
    assert {p.stem for p in (ROOT / "recipes" / "pdpo").iterdir()} == set(OPTIONS)
    page = (ROOT / "docs" / "pdpo.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[[^]]*\]\(\.\./recipes/pdpo/(\w+)\.yaml\)", page)) == set(OPTIONS)
    keys = {f.name for cls in (PDPO, GeneratorSettings) for f in fields(cls)} - {"kind"}
    assert [k for k in keys if not re.search(f"`{k}[`:]", page)] == []


def test_a_gated_run_judges_its_drafts(tmp_path: Path, base: Path) -> None:
    """An untrained model's drafts are all wrong: none is pulled up, and all of them are pushed down."""
    train_recipe(recipe(tmp_path, base, rows("#### "), generator={"gate": "verifier", "margin": 0.1}))
    assert [line["right"] for line in lines(tmp_path)] == [0.0] * 4
    assert all(line["loss/pdpo"] == line["active"] == 0.0 for line in lines(tmp_path))
    train_recipe(
        recipe(
            tmp_path / "down", base, rows("#### "), generator={"gate": "verifier", "margin": 0.1, "direction": "down"}
        )
    )
    first, *_ = lines(tmp_path / "down")
    assert (first["loss/pdpo"], first["active"]) == (pytest.approx(0.1), 1.0)


@pytest.mark.parametrize("verdict", ["strict", "flexible"])
def test_the_verifier_judges_as_the_recipe_says(tmp_path: Path, base: Path, verdict: str) -> None:
    made = recipe(tmp_path, base, rows("#### "), verdict=verdict, generator={"gate": "verifier"})
    policy, loaded = load_policy(made.model, 0)
    records = read_dataset(made, made.objective)
    loop = build_trainer(RunContext(made, made.objective, policy, loaded, records, Silent()), tmp_path)
    assert isinstance(loop.algorithm, PDPOAlgorithm)
    draft, truth = torch.tensor(loaded.tokenizer.encode("It is 7")), torch.tensor(loaded.tokenizer.encode("#### 7"))
    assert loop.algorithm.gate is not None
    group = Group("7", draft, (Branch(draft, Role.DRAFT),), truth)
    assert loop.algorithm.gate.rate([group]) == [[float(verdict == "flexible")]]


def test_a_ground_truth_without_a_number_is_refused_before_the_first_step(tmp_path: Path, base: Path) -> None:
    data = [{**row, "chosen": "many"} for row in rows("")]
    with pytest.raises(DataError, match=r"pairs\.jsonl:\d+: the answer 'many' holds no number"):
        train_recipe(recipe(tmp_path, base, data, generator={"gate": "verifier"}))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_stale_drafts_are_counted_and_gamma_rises(tmp_path: Path, base: Path) -> None:
    train_recipe(
        recipe(
            tmp_path,
            base,
            rows("#### "),
            reuse_steps=2,
            gamma=0.25,
            ramp={"gamma": {"to": 1.0, "over": 4}},
            generator={"clip": 0.2, "form": "softplus"},
        )
    )
    found = lines(tmp_path)
    assert [line["age"] for line in found] == [0, 1, 0, 1]
    assert [round(line["ratio"], 4) == 1 for line in found] == [True, False, True, False]
    assert [line["gamma"] for line in found] == [0.25, 0.5, 0.75, 1.0]
    shares = [(line["loss"] - line["loss/dpo"]) / line["loss/pdpo"] for line in found]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=1e-6)


def test_nll_of_the_discriminator_is_weighed_beside_the_generator(tmp_path: Path, base: Path) -> None:
    """L = L_DPO + 0.2·L_NLL + γ·L_G, and the NLL moves the weights."""
    made = recipe(tmp_path, base, rows("#### "), gamma=1.0, generator={"form": "softplus"})
    train_recipe(replace(made, objective=DPO(nll=0.2)))
    found = lines(tmp_path)
    for line in found:
        assert line["loss"] == pytest.approx(line["loss/dpo"] + 0.2 * line["loss/nll"] + line["loss/pdpo"], abs=1e-5)
    train_recipe(replace(made, run=str(tmp_path / "plain" / "run")))
    assert lines(tmp_path / "plain")[-1]["chosen_logp"] < found[-1]["chosen_logp"] - 1e-3


def test_a_reference_that_follows_takes_the_drafts_log_ratios_with_it(tmp_path: Path, base: Path) -> None:
    """Taken over whole after every second step, it is the policy itself: gaps of exactly 0 in every other step."""
    made = recipe(tmp_path, base, rows("#### "), gamma=1.0, generator={"form": "softplus"})
    train_recipe(replace(made, reference=ReferenceSettings(kind="moving", alpha=1.0, sync_every=2)))
    assert [line["draft_kl"] == line["gap"] == 0.0 for line in lines(tmp_path)] == [True, False, True, False]


def test_several_drafts_and_drafts_that_are_kept(tmp_path: Path, base: Path) -> None:
    train_recipe(
        recipe(tmp_path, base, rows("#### "), prompts=2, samples=4, reuse_steps=3, generator={"form": "softplus"})
    )
    found = lines(tmp_path)
    assert [line.get("drafts") for line in found] == [8, None, None, 8]
    assert [line["age"] for line in found] == [0, 1, 2, 0]
    assert found[1]["draft_length"] == found[0]["draft_length"]
    assert found[1]["draft_logp"] != found[0]["draft_logp"]


@pytest.mark.parametrize("side", ["truth", "both"])
def test_a_truth_that_is_pulled_gains_on_one_that_is_not(tmp_path: Path, base: Path, side: str) -> None:
    """The reward of the generator's truths after four steps of the same drafts' prompts."""
    how = {"gamma": 10.0, "prompts": 6}
    found = {}
    for each in ("drafts", side):
        train_recipe(
            recipe(tmp_path / each, base, rows("#### "), **how, generator={"gradient_to": each, "margin": 9.0})
        )
        found[each] = lines(tmp_path / each)[-1]
    assert found[side]["truth_reward"] > found["drafts"]["truth_reward"] + 0.1
    assert found[side]["truth_active"] == 1.0
    assert ("loss/pdpo" in found[side]) is (side == "both")
