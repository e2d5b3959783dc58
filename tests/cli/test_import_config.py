"""`twofold import`: configurations of other trainers become recipes; what a recipe cannot express is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from twofold.config.peers import KINDS, import_config

Run = Callable[..., Any]

TRL = {"model_name_or_path": "m", "dataset_name": "d"}
FACTORY = {"model_name_or_path": "m", "dataset": "d", "finetuning_type": "full"}
CHOSEN = {"kind": "sft", "on": "chosen"}
AXOLOTL = {"base_model": "m", "datasets": [{"path": "d"}], "learning_rate": 1e-5}


NAMED = "model_name_or_path: m\ndataset_name: d\nbeta: 0.1\n"


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], dict[str, str]]]:
    def convert(kind: str, values: object, stage: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        result = import_config(kind, path, stage)
        return yaml.safe_load(result.text), {lost.key: lost.reason for lost in result.lost}

    return convert


def test_a_dpo_config_of_trl_with_its_own_defaults(imported: Callable[..., Any]) -> None:
    recipe, lost = imported("trl-config", {**TRL, "beta": 0.2, "lora_r": 8, "gradient_accumulation_steps": 4})
    assert recipe == {
        "model": {"path": "m"},
        "data": {"train": "d", "tokenize": {"max_length": 1024, "truncation": "cut_completion"}},
        "objective": {"kind": "dpo", "beta": 0.2},
        "optimizer": {"kind": "adamw", "learning_rate": 1e-6, "schedule": "linear", "warmup": 0.0},
        "training": {"batch_size": 32, "epochs": 3.0},
    }
    assert lost == {}


@pytest.mark.parametrize(
    ("keys", "objective"),
    [
        ({"loss_type": "hinge", "beta": 0.05}, {"kind": "rso", "gamma": 0.05}),
        ({"loss_type": ["ipo"], "beta": 0.3}, {"kind": "ipo", "tau": 0.3, "logratio": "mean"}),
        ({"loss_type": "robust", "label_smoothing": 0.2}, {"kind": "robust_dpo", "beta": 0.1, "epsilon": 0.2}),
        ({"loss_type": "sppo_hard", "beta": 0.01}, {"kind": "sppo", "eta": 100.0}),
        ({"loss_type": "aot_unpaired"}, {"kind": "aot", "beta": 0.1, "form": "unpaired"}),
        ({"loss_type": "apo_down"}, {"kind": "anchored_po", "beta": 0.1, "anchor": "down"}),
        ({"loss_type": "discopop", "discopop_tau": 0.1}, {"kind": "discopop", "beta": 0.1, "tau": 0.1}),
        ({"beta": 0.1, "label_smoothing": 0.3}, {"kind": "dpo", "beta": 0.1, "label_smoothing": 0.3}),
        ({"beta": 0.1, "f_divergence_type": "js_divergence"}, {"kind": "f_dpo", "beta": 0.1, "divergence": "js"}),
        ({"beta": 0.1, "ld_alpha": 0.4}, {"kind": "ld_dpo", "beta": 0.1, "alpha": 0.4}),
        ({"beta": 0.1, "use_weighting": True}, {"kind": "wpo", "beta": 0.1}),
        ({"desirable_weight": 1.5}, {"kind": "kto", "beta": 0.1, "desirable_weight": 1.5, "undesirable_weight": 1.0}),
        ({"center_rewards_coefficient": 0.01}, {"kind": "bradley_terry", "centring": 0.01}),
        ({"step_separator": "\n"}, {"kind": "process_reward"}),
        ({"packing": True}, {"kind": "sft"}),
        (
            {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
            {"kind": "simpo", "beta": 2.0, "gamma": 1.0},
        ),
        (
            {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0},
            {"kind": "sum", "parts": [{"kind": "simpo", "beta": 2.0, "gamma": 1.0}, CHOSEN]},
        ),
        (
            {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0], "beta": 0.1},
            {
                "kind": "sum",
                "parts": [
                    {"kind": "dpo", "beta": 0.1, "weight": 0.8},
                    {"kind": "bco_pair", "beta": 0.1, "weight": 0.2},
                    CHOSEN,
                ],
            },
        ),
        ({"loss_type": "sigmoid,ipo", "loss_weights": [1, 0]}, {"kind": "dpo", "beta": 0.1}),
        ({"loss_type": "sft", "beta": 0.1}, {"kind": "sft"}),
        (
            {"loss_type": "hinge", "loss_weights": [2]},
            {"kind": "sum", "parts": [{"kind": "rso", "gamma": 0.1, "weight": 2.0}]},
        ),
        (
            {"loss_type": ["sigmoid", "sft"], "ld_alpha": 0.5, "beta": 0.1},
            {"kind": "sum", "parts": [{"kind": "ld_dpo", "beta": 0.1, "alpha": 0.5}, CHOSEN]},
        ),
    ],
)
def test_each_loss_of_trl_is_its_objective(imported: Callable[..., Any], keys: Any, objective: Any) -> None:
    recipe, lost = imported("trl-config", {**TRL, **keys})
    assert recipe["objective"] == objective
    assert lost == {}


def test_grpo_of_trl_counts_completions_where_a_recipe_counts_prompts(imported: Callable[..., Any]) -> None:
    keys = {"num_generations": 4, "per_device_train_batch_size": 16, "loss_type": "dr_grpo", "epsilon_high": 0.28}
    recipe, lost = imported("trl-config", {**TRL, **keys, "temperature": 0.9, "reward_funcs": ["accuracy"]})
    assert recipe["training"]["batch_size"] == 4
    assert recipe["algorithm"] == {"kind": "policy_gradient", "samples": 4}
    assert recipe["sampling"] == {"max_new_tokens": 512}
    assert recipe["objective"] == {
        "kind": "grpo", "beta": 0.0, "average": "constant", "length": 512, "scale": "group", "clip": 0.2,
        "clip_high": 0.28,
    }  # fmt: skip
    assert list(lost) == ["temperature", "reward_funcs"]


def test_adapters_precision_and_steps_of_trl(imported: Callable[..., Any]) -> None:
    keys = {
        "use_peft": True, "lora_r": 8, "lora_alpha": 16, "lora_target_modules": "all-linear", "use_dora": True,
        "load_in_4bit": True, "bf16": True, "gradient_checkpointing": True, "max_steps": 7, "num_train_epochs": 2,
        "warmup_ratio": 0.1, "lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "max_grad_norm": 0, "adam_beta2": 0.95, "optim": "adamw_8bit", "seed": 3, "output_dir": "out",
        "eval_strategy": "steps", "eval_steps": 5, "save_steps": 10, "report_to": "wandb", "learning_rate": "2e-5",
    }  # fmt: skip
    recipe, lost = imported("trl-config", {**TRL, "beta": 0.1, **keys})
    lora = {"rank": 8, "alpha": 16.0, "targets": "all-linear", "dora": True}
    assert recipe["model"] == {
        "precision": "bfloat16", "activation_checkpointing": True, "path": "m", "lora": lora, "quantize": "nf4",
    }  # fmt: skip
    assert recipe["optimizer"] == {
        "kind": "adamw_8bit", "learning_rate": 2e-5, "clip": None, "betas": [0.9, 0.95], "schedule": "cosine",
        "min_lr_ratio": 0.1, "warmup": 0.1,
    }  # fmt: skip
    assert recipe["training"] == {
        "batch_size": 8, "steps": 7, "evaluate_every": 5, "checkpoint_every": 10, "track": "wandb",
    }  # fmt: skip
    assert (recipe["seed"], recipe["run"], lost) == (3, "out", {})
    assert recipe["data"]["heldout"] == {"file": "d", "split": "test"}


def test_llama_factory_and_its_defaults(imported: Callable[..., Any]) -> None:
    keys = {"stage": "dpo", "pref_beta": 0.2, "pref_ftx": 0.5, "cutoff_len": 512, "val_size": 0.1, "max_samples": 9}
    recipe, lost = imported(
        "llama-factory", {**FACTORY, **keys, "finetuning_type": "lora", "lora_target": "q_proj, v_proj"}
    )
    assert recipe["model"]["lora"] == {"rank": 8, "alpha": 16.0, "targets": ["q_proj", "v_proj"]}
    assert recipe["objective"] == {"kind": "dpo", "beta": 0.2, "nll": 0.5}
    assert recipe["data"]["tokenize"]["max_length"] == 512
    assert (recipe["data"]["heldout"], recipe["data"]["limit"]) == ({"fraction": 0.1}, 9)
    assert recipe["optimizer"]["learning_rate"] == 5e-5
    assert list(lost) == ["dataset"]


@pytest.mark.parametrize(
    ("kind", "keys", "objective", "reported"),
    [
        ("llama-factory", {"pref_loss": "ipo", "pref_ftx": 0.5},
         {"kind": "ipo", "tau": 0.1, "logratio": "mean", "nll": 0.5}, []),
        ("llama-factory", {"pref_loss": "hinge", "pref_ftx": 0.5}, {"kind": "rso", "gamma": 0.1}, ["pref_ftx"]),
        ("llama-factory", {"pref_bco_weight": 0.3}, {"kind": "dpo", "beta": 0.1}, ["pref_bco_weight"]),
        ("axolotl", {"rl": "dpo", "rpo_alpha": 0.7}, {"kind": "sum", "parts": [
            {"kind": "dpo", "beta": 0.1}, {**CHOSEN, "weight": 0.7}]}, []),
        ("axolotl", {"rl": "simpo", "cpo_alpha": 0}, {"kind": "simpo", "beta": 0.1, "gamma": 0.5}, []),
        ("axolotl", {"rl": "kto", "rpo_alpha": 0.7}, {"kind": "kto", "beta": 0.1, "desirable_weight": 1.0,
            "undesirable_weight": 1.0}, ["rpo_alpha"]),
    ],
)  # fmt: skip
def test_the_likelihood_beside_a_loss(
    imported: Callable[..., Any], kind: str, keys: Any, objective: Any, reported: list[str]
) -> None:
    """LLaMA-Factory's is of each completion's own mean, as `nll`; TRL's, which axolotl uses, of the step's tokens."""
    base = {**FACTORY, "stage": "dpo"} if kind == "llama-factory" else AXOLOTL
    recipe, lost = imported(kind, {**base, **keys})
    assert recipe["objective"] == objective
    assert [key for key in lost if key != "dataset"] == reported


def test_axolotl_and_its_defaults(imported: Callable[..., Any]) -> None:
    keys = {"rl": "simpo", "rl_beta": 2.0, "simpo_gamma": 1.2, "adapter": "qlora", "lora_r": 4, "val_set_size": 16}
    recipe, lost = imported(
        "axolotl", {**AXOLOTL, **keys, "micro_batch_size": 2, "lora_dropout": 0.05, "num_epochs": 2}
    )
    assert recipe["model"] == {"path": "m", "lora": {"rank": 4, "targets": "all-linear"}, "quantize": "nf4"}
    assert recipe["objective"] == {"kind": "sum", "parts": [{"kind": "simpo", "beta": 2.0, "gamma": 1.2}, CHOSEN]}
    assert recipe["data"] == {"train": "d", "heldout": {"count": 16}}
    assert recipe["training"] == {"batch_size": 2, "epochs": 2.0}
    assert recipe["optimizer"]["schedule"] == "cosine"
    assert list(lost) == ["lora_dropout"]


def test_what_cannot_be_carried_over_is_reported_with_its_reason(imported: Callable[..., Any]) -> None:
    keys = {
        "beta": 0.1,
        "label_smoothing": 0.1,
        "loss_type": "hinge",
        "fp16": True,
        "optim": "lion_32bit",
        "no_such_key": 1,
    }
    recipe, lost = imported("trl-config", {**TRL, **keys})
    assert recipe["objective"] == {"kind": "rso", "gamma": 0.1}
    assert recipe["optimizer"]["kind"] == "adamw"
    assert lost.keys() == {"label_smoothing", "fp16", "optim", "no_such_key"}
    assert lost["no_such_key"] == "twofold has no such setting"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("trl-config", "a: [", "not valid YAML"),
        ("trl-config", "[1]", "holds no keys"),
        ("trl-config", "model_name_or_path: m\ndataset_name: d", "no key of this file shows which trainer it is for"),
        ("trl-config", "beta: 0.1\ndataset_name: d", "no model is named"),
        ("trl-config", "beta: 0.1\nmodel_name_or_path: m", "no data set is named"),
        ("trl-config", "beta: much\nmodel_name_or_path: m\ndataset_name: d", "a value cannot be read"),
        ("trl-config", "beta: -1\nmodel_name_or_path: m\ndataset_name: d", "objective.beta"),
        (
            "trl-config",
            "loss_type: novel\nbeta: 1\nmodel_name_or_path: m\ndataset_name: d",
            "novel has no objective here",
        ),
        ("trl-config", f"{NAMED}loss_type: [sigmoid, sft]\nloss_weights: [1]", "holds 1 numbers for 2 losses"),
        ("trl-config", f"{NAMED}loss_type: [sigmoid, ipo]\nuse_weighting: true", "use_weighting: changes ipo too"),
        ("trl-config", f"{NAMED}loss_type: [aot, aot]\nloss_weights: [1, -1]", "weight must be > 0"),
        ("llama-factory", "stage: pt", "stage: pt cannot be imported"),
        ("axolotl", "rl: grpo", "rl: grpo cannot be imported"),
        ("axolotl", "base_model: m\ndatasets: 3", "a value cannot be read"),
    ],
)
def test_a_mistake_is_one_message(twofold: Run, tmp_path: Path, kind: str, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    answer = twofold("import", kind, path)
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())


def test_the_verb_writes_a_recipe_and_prints_what_is_lost(twofold: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "config.yaml", tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**TRL, "beta": 0.1, "neftune_noise_alpha": 5}), encoding="utf-8")
    answer = twofold("import", "trl-config", path, "--out", out)
    assert answer.code == 0
    assert yaml.safe_load(out.read_text())["objective"] == {"kind": "dpo", "beta": 0.1}
    assert "not carried over: neftune_noise_alpha: 5 → no noise is added to embeddings" in " ".join(answer.err.split())
    assert twofold("import", "trl-config", path, "--out", out).code == 2
    assert yaml.safe_load(twofold("import", "trl-config", path).out)["model"] == {"path": "m"}
    assert twofold("import", "trl-config", path, "--stage", "what").code == 2
    assert "missing.yaml: no such file" in twofold("import", "trl-config", tmp_path / "missing.yaml").err


def test_every_key_of_the_migration_table_is_read(root: Path) -> None:
    page = (root / "docs" / "migration.md").read_text(encoding="utf-8")
    table = page.partition("## Key by key")[2].partition("## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ") and "---" not in line][
        1:
    ]
    assert len(rows) > 30
    for column, (kind, base) in enumerate((("trl-config", TRL), ("llama-factory", FACTORY), ("axolotl", AXOLOTL))):
        keys = [key for row in rows for key in re.findall(r"`([a-z_0-9]+)`", row[column])]
        peer = KINDS[kind]
        values = {**base, **dict.fromkeys(keys)}
        unknown = [set(peer.convert(dict(values), stage).unknown) for stage in peer.STAGES]
        assert set.intersection(*unknown) == set()
        assert "no_such_key" in peer.convert({**values, "no_such_key": 1}, peer.STAGES[0]).unknown
