"""From recipe to run directory, and the same from Python."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import twofold
from support.sum_pairs import ROWS, write
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.demo.build import character_tokenizer
from twofold.errors import DataError, RecipeError
from twofold.runs.dry_run import dry_run
from twofold.runs.train import RunOptions, train_recipe

TASKS = [{"prompt": f"{a}+9?", "answer": f"#### {a + 9}"} for a in range(1, 5)]


def recipe(tmp_path: Path, base: Path, **sections: Any) -> Recipe:
    pairs, tasks = write(tmp_path / "pairs.jsonl", ROWS), write(tmp_path / "tasks.jsonl", TASKS)
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(pairs), "heldout": {"count": 4}, "generator": {"count": 4}},
        "algorithm": {"kind": "pdpo", "prompts": 2, "warmup": 1, "drop_truncated": False},
        "training": {"steps": 3, "batch_size": 4},
        "sampling": {"max_new_tokens": 5},
        "evaluation": {"tasks": {"file": str(tasks)}, "sampling": {"temperature": 0, "max_new_tokens": 5}},
        "run": str(tmp_path / "run"),
        **sections,
    }
    return validate(Recipe, Document("test", given, {}))


def test_a_run_leaves_all_that_scripts_rely_on(tmp_path: Path, base: Path) -> None:
    trained = train_recipe(recipe(tmp_path, base), RunOptions(command="twofold train x.yaml", recipe_text="# mine\n"))
    run = tmp_path / "run"
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "recipe.yaml", "resolved.yaml", "environment.json", "metrics.jsonl", "timings.jsonl", "samples.jsonl",
        "warnings.jsonl",
        "results.json", "checkpoints", "model", "README.md", "report.html",
    }  # fmt: skip
    assert (run / "recipe.yaml").read_text() == "# mine\n"
    results = json.loads((run / "results.json").read_text())
    assert [m["name"] for m in results["models"]] == ["base", "policy"]
    assert results["models"][0]["strict"]["n"] == 4
    assert results["comparisons"][0]["test"] == "McNemar exact"
    assert results["heldout"]["accuracy"]["n"] == 4
    assert results["command"] == "twofold train x.yaml"
    begun = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert (begun["heldout/margin"], begun["heldout/accuracy"]) == (0, 0)  # the same packs as the cached reference's
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["train"]["rows"] == len(ROWS)
    assert environment["prompts_shared"] is True
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    ids = tokenizer("1+9?", return_tensors="pt").input_ids
    trained.model.config._attn_implementation = "sdpa"
    assert torch.equal(model(ids).logits, trained.model(ids).logits)
    assert model.config.use_cache is True


def test_resolved_yaml_repeats_the_run(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base))
    again = validate(Recipe, load_recipe(tmp_path / "run" / "resolved.yaml", [f"run={tmp_path / 'again'}"]))
    train_recipe(again)
    first, second = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "again"))
    assert first == second


def test_five_lines_of_python_with_an_objective_of_ones_own(tmp_path: Path, base: Path) -> None:
    class LogRatio:
        """Raises chosen over rejected without any reference."""

        requires: ClassVar[tuple[str, ...]] = ()

        def __call__(self, outputs: twofold.Outputs, batch: twofold.Batch) -> twofold.Loss:
            logp_B = batch.sum(outputs.logp_S)
            margin = logp_B[0::2] - logp_B[1::2]
            return twofold.Loss(
                {"mine": twofold.Term(-margin, "pair")}, {"my_margin": twofold.Term(margin.detach(), "pair")}
            )

    rows = [
        twofold.Pair(r["prompt"], r["chosen"], r["rejected"], twofold.Source("mine", i)) for i, r in enumerate(ROWS, 1)
    ]
    model = AutoModelForCausalLM.from_pretrained(base)
    trained = twofold.train(
        (model, character_tokenizer()), rows, objective=LogRatio(), run=str(tmp_path / "mine"),
        optimizer={"learning_rate": 1e-2}, training={"steps": 5, "batch_size": 6},
    )  # fmt: skip
    assert trained.model is model
    lines = [json.loads(line) for line in (tmp_path / "mine" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["my_margin"] > lines[0]["my_margin"] + 1
    assert "ref_logp" not in str(lines)


def test_sft_learns_from_pairs_tasks_and_demonstrations(tmp_path: Path, base: Path) -> None:
    demonstrations = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in ROWS]
    tasks = [{"prompt": r["prompt"], "answer": r["chosen"]} for r in ROWS]
    final: list[float] = []
    for name, rows in (("pairs", ROWS), ("demonstrations", demonstrations), ("tasks", tasks)):
        path = write(tmp_path / f"{name}.jsonl", rows)
        trained = twofold.train(
            str(base), str(path), objective=twofold.SFT(), run=str(tmp_path / name),
            training={"steps": 4, "batch_size": 4}, optimizer={"learning_rate": 1e-2},
        )  # fmt: skip
        assert trained.outcome.step == 4
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        final.append(lines[-1]["loss"])
        assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    assert final[0] == final[1] == final[2]


def test_nothing_is_measured_on_what_was_trained_on(tmp_path: Path, base: Path) -> None:
    leak = [{"prompt": ROWS[3]["prompt"], "answer": "#### 1"}]
    leaked = {"tasks": {"file": str(write(tmp_path / "leak.jsonl", leak))}}
    with pytest.raises(DataError, match=r"leak\.jsonl:1"):
        train_recipe(recipe(tmp_path, base, evaluation=leaked))
    assert not (tmp_path / "run").exists()


def test_dry_run_counts_what_the_run_would_use(tmp_path: Path, base: Path) -> None:
    planned = dry_run(recipe(tmp_path, base))
    trained = train_recipe(recipe(tmp_path, base))
    assert planned.parameters == sum(p.numel() for p in trained.model.parameters())
    assert planned.steps == trained.outcome.step == 3
    assert planned.rows == {"train": 10, "generator": 4, "heldout": 4, "tasks": 4}
    assert planned.memory.weights == planned.parameters * 4
    assert planned.memory.reference == planned.parameters * 4  # PDPO asks a live copy
    assert planned.memory.total > planned.memory.activations > 0
    assert yaml.safe_load(planned.resolved)["optimizer"]["learning_rate"] == 1e-6


def test_dry_run_knows_adapters_and_checkpointing(tmp_path: Path, base: Path) -> None:
    plain = recipe(tmp_path, base)
    lora = replace(plain, model=replace(plain.model, lora=validate_lora(), activation_checkpointing=True))
    planned, full = dry_run(lora), dry_run(plain)
    trained = train_recipe(replace(lora, run=str(tmp_path / "lora")))
    assert planned.trainable == sum(p.numel() for p in trained.policy.trainable().values())
    assert planned.memory.optimizer < full.memory.optimizer
    assert planned.memory.activations < full.memory.activations
    assert planned.memory.reference == 0


def validate_lora() -> Any:
    from twofold.models.adapters import LoRA

    return LoRA(rank=2)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"algorithm": {"kind": "pdpo"}, "data": {"train": "x"}}, "data.generator"),
        ({"objective": {"kind": "sft"}}, "discriminator"),
        ({"training": {"patience": 3}}, "training.patience: needs `best_metric`"),
        ({"data": {"train": "x", "heldout": {"count": 3, "fraction": 0.5}}}, "one of file, count and fraction"),
    ],
)
def test_recipes_that_cannot_be_meant(tmp_path: Path, base: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, base, **sections)


@pytest.mark.parametrize("name", sorted(p.name for p in Path("recipes").glob("*.yaml")))
def test_shipped_recipes_are_valid(name: str, root: Path) -> None:
    assert validate(Recipe, load_recipe(root / "recipes" / name)).training.total_steps(6000) > 0
