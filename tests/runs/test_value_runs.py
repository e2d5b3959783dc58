"""PPO with a value model from a recipe to a finished run: its folder, what it starts from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from support.rollout_runs import digits, lines, recipe, rows, sections
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import ModelError, RecipeError
from twofold.models.load import ModelSettings, load_policy, save_policy
from twofold.runs.dry_run import dry_run
from twofold.runs.train import train, train_recipe

ROOT = Path(__file__).parents[2]
PPO: dict[str, Any] = {"objective": {"kind": "ppo"}, "algorithm": {"value": {}}}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_run_leaves_policy_and_value_model(tmp_path: Path, base: Path, lora: bool) -> None:
    """`model/` is the policy, `value-model/` a classifier of one label that has learnt what a digit is worth."""
    made = sections(**PPO, training={"steps": 20})
    made["algorithm"] |= {"reward": digits, "epochs": 2}
    if lora:
        made["model"] = {"lora": {"rank": 2}}
    train(str(base), rows(), run=str(tmp_path / "run"), **made)
    found = lines(tmp_path / "run")
    rolled = [line for line in found if "value" in line]
    assert [line["age"] for line in rolled] == [0] * 10
    assert rolled[0]["value"] == 0
    assert rolled[-1]["value"] > 0.2
    assert found[-1]["value-model/grad_norm"] > 0
    classifier, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "run" / "value-model", output_loading_info=True
    )
    assert (classifier.config.num_labels, classifier.score.weight.abs().max() > 0) == (1, True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    AutoTokenizer.from_pretrained(tmp_path / "run" / "value-model")
    if not lora:
        policy, begun = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (tmp_path / "run/model", base))
        assert not torch.equal(policy["lm_head.weight"], begun["lm_head.weight"])
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_value_model_goes_on_where_another_ended(tmp_path: Path, base: Path) -> None:
    """From a reward model's folder, or a value model's: at a rate of next to nothing its weights stay the same."""
    pairs = tmp_path / "pairs.jsonl"
    told = [{"prompt": t.prompt, "chosen": "1111", "rejected": "0"} for t in rows()]  # type: ignore[union-attr]  # tasks
    pairs.write_text("".join(json.dumps(row) + "\n" for row in told))
    train(
        str(base), str(pairs), run=str(tmp_path / "rm"), objective={"kind": "bradley_terry"},  # type: ignore[arg-type]  # a section
        training={"steps": 10, "batch_size": 6}, optimizer={"learning_rate": 1e-2},
    )  # fmt: skip
    start = str(tmp_path / "rm" / "model")
    still = {"value": {"start": start, "learning_rate": 1e-12}}
    train_recipe(recipe(tmp_path, base, **{**PPO, "algorithm": still}))
    before, after = weights(Path(start)), weights(tmp_path / "run" / "value-model")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)
    again = {"value": {"start": str(tmp_path / "run" / "value-model")}}
    (tmp_path / "more").mkdir()
    train_recipe(recipe(tmp_path / "more", base, **{**PPO, "algorithm": again, "training": {"steps": 1}}))
    assert lines(tmp_path / "more" / "run")[0]["value"] != 0


def test_resolved_settings_repeat_the_run(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base, **PPO))
    once = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    again = validate(Recipe, load_recipe(tmp_path / "run" / "resolved.yaml", [f"run={tmp_path / 'again'}"]))
    train_recipe(again)
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == once


def test_a_dry_run_counts_the_value_model(tmp_path: Path, base: Path) -> None:
    with_it, without = (
        dry_run(recipe(tmp_path, base, **PPO)),
        dry_run(recipe(tmp_path, base, objective={"kind": "ppo"})),
    )
    assert without.memory.value == 0
    steps = 4 * 12  # a count for each of its weights
    assert with_it.memory.value == 4 * 4 * with_it.parameters + steps
    assert "start: policy" in with_it.resolved
    with pytest.raises(ModelError, match="nowhere"):
        dry_run(recipe(tmp_path, base, **{**PPO, "algorithm": {"value": {"start": "./nowhere"}}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"kind": "grpo"}}, "needs objective ppo"),
        ({"objective": {"baseline": "leave_one_out"}}, "the value model is the baseline"),
        ({"objective": {"scale": "group"}}, "choose rollout or none"),
        ({"algorithm": {"value": {"gae_lamda": 0.9}}}, "did you mean `gae_lambda`"),
        ({"algorithm": {"value": {"gae_lambda": 2}}}, r"gae_lambda: must be in \[0, 1\]"),
        ({"algorithm": {"value": {"learning_rate": 0}}}, "learning_rate: must be > 0"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, base: Path, changes: dict[str, Any], message: str) -> None:
    given = {name: {**PPO.get(name, {}), **changes.get(name, {})} for name in ("objective", "algorithm")}
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, base, **given)


def test_another_vocabulary_is_refused(tmp_path: Path, base: Path) -> None:
    policy, loaded = load_policy(ModelSettings(path=str(base)))
    loaded.tokenizer.add_tokens(["another"])
    policy.model.resize_token_embeddings(len(loaded.tokenizer))
    save_policy(policy, loaded.tokenizer, tmp_path / "other")
    with pytest.raises(ModelError, match="another vocabulary"):
        train_recipe(recipe(tmp_path, base, **{**PPO, "algorithm": {"value": {"start": str(tmp_path / "other")}}}))


@pytest.mark.parametrize(
    ("start", "remedy"), [("polcy", "did you mean `policy`"), ("./nowhere", "folder of a reward model")]
)
def test_a_start_that_is_not_there_is_told(tmp_path: Path, base: Path, start: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match=rf"algorithm.value.start: {start}: no such folder\s.*{remedy}"):
        train_recipe(recipe(tmp_path, base, **{**PPO, "algorithm": {"value": {"start": start}}}))


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "policy_gradient").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_are_whole(path: Path) -> None:
    made = validate(Recipe, load_recipe(path))
    assert made.algorithm.kind == "policy_gradient"
    assert made.run == f"runs/policy_gradient/{path.stem}"
    assert (made.algorithm.value is not None) == path.stem.startswith("ppo")
