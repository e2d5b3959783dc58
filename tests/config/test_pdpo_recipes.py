"""PDPO's options from a recipe to the run: what is shipped, what is judged, what is refused before the first step."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from twofold.algorithms import PDPO, PDPOAlgorithm
from twofold.config.assemble import Assembly, read_records
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.config.train import train_recipe
from twofold.errors import DataError
from twofold.models.load import load_policy
from twofold.progress import Silent

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "gate": {"gate": "verifier"},
    "leave_one_out": {"baseline": "leave_one_out", "prompts": 2, "samples": 4},
    "clip": {"refresh_every": 4, "clip": 0.2},
    "margin": {"margin": 0.1},
    "softplus": {"form": "softplus"},
    "squared_hinge": {"form": "squared_hinge"},
    "square": {"form": "square"},
    "per_token": {"per_token": True, "gamma": 10.0},
    "sign_down": {"sign": "down", "form": "softplus"},
    "gamma_ramp": {"gamma_ramp": 0.5},
    "alternate": {"schedule": "alternate"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_recipe_turns_on_the_option_of_its_name_alone(name: str) -> None:
    recipe = validate(Recipe, load_recipe(ROOT / "recipes" / "pdpo" / f"{name}.yaml"))
    changed = {k: v for k, v in asdict(recipe.algorithm).items() if v != asdict(PDPO())[k]}
    assert changed == OPTIONS[name]
    assert recipe.run == f"runs/pdpo/{name}"


def test_the_page_names_every_recipe_and_every_setting() -> None:
    assert {p.stem for p in (ROOT / "recipes" / "pdpo").iterdir()} == set(OPTIONS)
    page = (ROOT / "docs" / "pdpo.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[[^]]*\]\(\.\./recipes/pdpo/(\w+)\.yaml\)", page)) == set(OPTIONS)
    assert [k for k in asdict(PDPO()) if k != "kind" and not re.search(f"`{k}[`:]", page)] == []


def rows(last: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"{a}+{b}?", "chosen": f"{a}+{b}={a + b}\n{last}{a + b}", "rejected": f"#### {a}"}
        for a in range(1, 7)
        for b in range(1, 4)
    ]


def recipe(tmp_path: Path, base: Path, data: list[dict[str, str]], **algorithm: Any) -> Recipe:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(path), "generator": {"count": 6}},
        "algorithm": {"kind": "pdpo", "prompts": 3, "warmup": 0, "drop_truncated": False, **algorithm},
        "training": {"steps": 4, "batch_size": 4},
        "optimizer": {"learning_rate": 1e-2},
        "sampling": {"max_new_tokens": 6},
        "run": str(tmp_path / "run"),
    }
    return validate(Recipe, Document("test", given, {}))


def lines(tmp_path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]


def test_a_gated_run_judges_its_drafts(tmp_path: Path, base: Path) -> None:
    """An untrained model's drafts are all wrong: none is pulled up, and all of them are pushed down."""
    train_recipe(recipe(tmp_path, base, rows("#### "), gate="verifier", margin=0.1))
    assert [line["right"] for line in lines(tmp_path)] == [0.0] * 4
    assert all(line["loss/pdpo"] == line["active"] == 0.0 for line in lines(tmp_path))
    train_recipe(recipe(tmp_path / "down", base, rows("#### "), gate="verifier", margin=0.1, sign="down"))
    first, *_ = lines(tmp_path / "down")
    assert (first["loss/pdpo"], first["active"]) == (pytest.approx(0.1), 1.0)


@pytest.mark.parametrize("verdict", ["strict", "flexible"])
def test_the_verifier_judges_as_the_recipe_says(tmp_path: Path, base: Path, verdict: str) -> None:
    made = recipe(tmp_path, base, rows("#### "), gate="verifier", verdict=verdict)
    policy, loaded = load_policy(made.model, 0)
    records = read_records(made, made.objective)
    loop = Assembly(made, made.objective, policy, loaded, records, Silent()).loop(tmp_path)
    assert isinstance(loop.algorithm, PDPOAlgorithm)
    draft, truth = torch.tensor(loaded.tokenizer.encode("It is 7")), torch.tensor(loaded.tokenizer.encode("#### 7"))
    assert loop.algorithm.verifier is not None
    assert loop.algorithm.verifier.right(draft, truth) is (verdict == "flexible")


def test_a_ground_truth_without_a_number_is_refused_before_the_first_step(tmp_path: Path, base: Path) -> None:
    data = [{**row, "chosen": "many"} for row in rows("")]
    with pytest.raises(DataError, match=r"pairs\.jsonl:\d+: the answer 'many' holds no number"):
        train_recipe(recipe(tmp_path, base, data, gate="verifier"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_stale_drafts_are_counted_and_gamma_rises(tmp_path: Path, base: Path) -> None:
    train_recipe(
        recipe(tmp_path, base, rows("#### "), refresh_every=2, clip=0.2, form="softplus", gamma=1.0, gamma_ramp=3)
    )
    found = lines(tmp_path)
    assert [line["age"] for line in found] == [0, 1, 0, 1]
    assert [round(line["ratio"], 4) == 1 for line in found] == [True, False, True, False]
    shares = [(line["loss"] - line["loss/dpo"]) / line["loss/pdpo"] for line in found]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=1e-6)
