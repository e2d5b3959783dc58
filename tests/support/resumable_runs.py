"""Runs of every kind that take milliseconds a step, made the same to the bit each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from support import seq2seq
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.demo.build import character_tokenizer
from twofold.models.heads import load_reward_model, wrap_reward_model
from twofold.models.load import load_policy, wrap
from twofold.progress import Silent
from twofold.records import Pair, Source
from twofold.runs.build import build_trainer
from twofold.runs.context import Model, RunContext
from twofold.runs.dataset import read_dataset
from twofold.runs.processes import load_shared, with_settled_world
from twofold.runs.reference_fit import fit_stage, start_from_fit
from twofold.training.trainer import Trainer
from twofold.world import world

STEPS = 6
KINDS: dict[str, dict[str, Any]] = {
    "offline": {},
    "pdpo": {"algorithm": {"kind": "pdpo", "prompts": 2, "warmup": 1, "drop_truncated": False}},
    "pdpo-stale": {
        "algorithm": {
            "kind": "pdpo",
            "prompts": 2,
            "samples": 2,
            "warmup": 1,
            "drop_truncated": False,
            "gamma": 1.0,
            "reuse_steps": 3,
            "generator": {"clip": 0.2, "baseline": "leave_one_out", "form": "square", "margin": 0.1},
        }
    },
    "pdpo-gated": {
        "algorithm": {
            "kind": "pdpo",
            "prompts": 2,
            "samples": 2,
            "warmup": 1,
            "drop_truncated": False,
            "gamma": 0.5,
            "generator": {"form": "softplus", "gradient_to": "both", "kl": 0.1, "gate": "judge"},
            "reuse_steps": 2,
            "ramp": {"gamma": {"to": 0.8}, "beta": {"to": 0.3}},
            "judge": {"source": "python:brevity", "at_least": -1.0},
        }
    },
    "offline-lora": {"lora": True},
    "pdpo-lora": {"lora": True, "algorithm": {"kind": "pdpo", "prompts": 2, "warmup": 1, "drop_truncated": False}},
    "bco": {"objective": {"kind": "bco", "shift_decay": 0.5}},
    "moving": {"reference": {"kind": "moving", "alpha": 0.3, "sync_every": 2}},
    "pdpo-moving": {
        "algorithm": {"kind": "pdpo", "prompts": 2, "warmup": 1, "drop_truncated": False},
        "reference": {"kind": "moving", "alpha": 0.5, "sync_every": 1},
    },
    "grpo": {
        "objective": {"kind": "grpo", "scale": "none"},
        "algorithm": {"kind": "policy_gradient", "reward": "python:brevity", "rollouts": 6, "epochs": 2, "samples": 3},
    },
    "rloo-adaptive-lora": {
        "lora": True,
        "objective": {"kind": "rloo", "clip": 0.2},
        "algorithm": {
            "kind": "policy_gradient",
            "reward": [{"source": "python:brevity", "weight": 2.0}, {"source": "verifier"}],
            "epochs": 2,
            "kl": {"coefficient": 0.1, "target": 0.5, "horizon": 50},
            "stop_penalty": 0.3,
        },
    },
    "ppo-value": {
        "objective": {"kind": "ppo"},
        "algorithm": {
            "kind": "policy_gradient",
            "reward": "python:brevity",
            "rollouts": 6,
            "epochs": 2,
            "normalize": True,
            "kl": {"coefficient": 0.1, "target": 0.5, "horizon": 50},
            "value": {"learning_rate": 3e-3},
        },
    },
    "ppo-value-lora": {
        "lora": True,
        "objective": {"kind": "ppo", "scale": "none"},
        "algorithm": {"kind": "policy_gradient", "reward": "python:brevity", "epochs": 3, "value": {"gae_lambda": 1.0}},
    },
    "online-rounds": {
        "algorithm": {
            "kind": "online",
            "judge": "python:brevity",
            "samples": 3,
            "pairs": "all",
            "most": 2,
            "labels": "bradley_terry",
            "prompts": 6,
            "epochs": 2,
            "reference": "fresh",
        },
    },
    "online-rounds-lora": {
        "lora": True,
        "objective": {"kind": "sppo", "eta": 3.0, "probability": "data"},
        "algorithm": {
            "kind": "online",
            "judge": [{"source": "python:brevity", "weight": 2.0}, {"source": "verifier"}],
            "samples": 3,
            "prompts": 6,
            "epochs": 2,
            "reference": "fresh",
        },
    },
    "xpo": {
        "algorithm": {
            "kind": "online",
            "judge": "python:brevity",
            "samples": 1,
            "reference_samples": 1,
            "alpha": 0.01,
            "alpha_decay": "linear",
            "prompts": 6,
            "reference": "fresh",
        },
    },
    "moving-lora": {"lora": True, "reference": {"kind": "moving", "alpha": 1.0, "sync_every": 2}},
    "moving-dora": {
        "lora": {"rank": 2, "dora": True, "rslora": True, "exclude": ["mlp"], "modules_to_save": ["lm_head", "norm"]},
        "reference": {"kind": "moving", "alpha": 1.0, "sync_every": 2},
    },
    "bema-lora": {"lora": True, "reference": {"kind": "moving", "sync_every": 2, "bema": {}}},
    "pdpo-nf4": {
        "lora": True,
        "quantize": "nf4",
        "algorithm": {"kind": "pdpo", "prompts": 2, "warmup": 1, "drop_truncated": False},
    },
    "ppo-value-int8": {
        "lora": {"rank": 2, "dora": True},
        "quantize": "int8",
        "objective": {"kind": "ppo", "scale": "none"},
        "algorithm": {"kind": "policy_gradient", "reward": "python:brevity", "epochs": 3, "value": {"gae_lambda": 1.0}},
    },
}

OTHERS: dict[str, dict[str, Any]] = {
    "live": {"reference": {"kind": "live"}},
    "kto": {"objective": {"kind": "kto"}},
    "bema": {"reference": {"kind": "moving", "sync_every": 2, "bema": {}}},
    "weighted": {"numbers": True},
    "weighted-kto": {"numbers": True, "objective": {"kind": "kto"}},
    "weighted-reward": {"numbers": True, "objective": {"kind": "bradley_terry"}},
    "sft": {"objective": {"kind": "sft"}, "data": {"heldout": None}},
    "rankings": {"objective": {"kind": "plackett_luce"}},
    "coupled": {"objective": {"kind": "aot"}},
    "reward-model": {"objective": {"kind": "bradley_terry", "centring": 0.01}},
    "reward-model-lora": {"objective": {"kind": "bradley_terry"}, "lora": True},
    "checkpointed": {"model": {"activation_checkpointing": True}},
    "experts": {"experts": True, "model": {"router_aux_loss_coef": 0.5}},
    "experts-coupled": {"experts": True, "model": {"router_aux_loss_coef": 0.5}, "objective": {"kind": "aot"}},
    "rows": {"model": {"sharing": "rows"}},
    "bfloat16": {"model": {"precision": "bfloat16"}},
    "stream": {"model": {"precision": "bfloat16", "residual": "bfloat16"}, "training": {"packing": {"tokens": 60}}},
    "stream-lora": {
        "lora": {"rank": 2, "dora": True},
        "model": {"precision": "bfloat16", "residual": "bfloat16", "activation_checkpointing": True},
    },
    "stream-reward": {
        "model": {"precision": "bfloat16", "residual": "bfloat16"},
        "objective": {"kind": "bradley_terry"},
    },
    "packs": {"training": {"packing": {"tokens": 60}}},
    "reduce": {"training": {"packing": {"tokens": 60}}, "world": {"reduce": "pack", "reshard_after_forward": False}},
    "offload": {"training": {"packing": {"tokens": 60}}, "world": {"offload": True, "prefetch": 2}},
    "bfloat16-lora": {"lora": True, "model": {"precision": "bfloat16"}},
    "fit": {"reference": {"fit": "chosen", "fit_epochs": 0.5, "kind": "moving", "alpha": 0.3, "sync_every": 2}},
    "fit-lora": {"lora": True, "reference": {"fit": "chosen", "fit_epochs": 0.5, "fit_learning_rate": 1e-3}},
    "muon": {"optimizer": {"kind": "muon", "learning_rate": 1e-3, "weight_decay": 0.1}},
    "adafactor": {"optimizer": {"kind": "adafactor", "learning_rate": 1e-3}},
    "adamw-8bit": {"optimizer": {"kind": "adamw_8bit", "learning_rate": 1e-3}},
    "seq2seq": {"encodes": True},
    "seq2seq-lora": {"encodes": True, "lora": True, "reference": {"kind": "live"}},
    "momentum": {"optimizer": {"kind": "sgd", "learning_rate": 1e-2, "weight_decay": 0.1}},
}
"""Kinds that differ in how packs are computed, and not in what a stop has to remember."""
FAULTY: dict[str, dict[str, Any]] = {
    "diverging": {"optimizer": {"kind": "sgd", "learning_rate": 1e25, "clip": None}},
}
"""Kinds that do not come to their end."""


def brevity(prompt: str, completion: str, truth: str | None) -> float:
    """A reward that differs from draft to draft."""
    return -len(completion) / 6 + completion.count("1")


def pairs(numbers: bool = False) -> list[Pair]:
    """Sums; with `numbers`, rows have weights, and some of them probabilities."""
    made = [
        Pair(f"{a} + {b}?", f"{a}+{b}={a + b}\n#### {a + b}", f"#### {a * b}", Source("made", a * 5 + b))
        for a in range(1, 5)
        for b in range(1, 5)
    ]
    if not numbers:
        return made
    weights = [0.0 if n == 5 else 0.5 + n % 4 for n in range(len(made))]
    sure = [None if n % 3 else 0.7 for n in range(len(made))]
    return [replace(row, weight=w, probability=p) for row, w, p in zip(made, weights, sure, strict=True)]


def _store(path: str, made: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if not Path(path).is_dir():
        made.save_pretrained(path)
        tokenizer.save_pretrained(path)


def made_model(
    *, encodes: bool = False, experts: Mapping[str, int] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model of one layer (an encoder–decoder: of two and two) and its tokenizer."""
    torch.manual_seed(0)
    if encodes:
        return seq2seq.t5(), seq2seq.tokenizer("t5")
    tokenizer = character_tokenizer()
    config = (MixtralConfig if experts else LlamaConfig)(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
        **(experts or {}),
    )  # fmt: skip
    return (MixtralForCausalLM if experts else LlamaForCausalLM)(config), tokenizer


def _model(recipe: Recipe, made: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, stored: bool) -> Model:
    scored = recipe.objective.reads == "scores"
    if stored:
        world().once(lambda: _store(recipe.model.path, made, tokenizer))
        load = load_reward_model if scored else load_policy
        return load_shared(recipe, Silent(), lambda: load(recipe.model))
    return (wrap_reward_model if scored else wrap)(recipe.model, made, tokenizer)


def assembly(
    run: Path, kind: str, *, sharing: str = "auto", precision: str = "float32", stored: bool = False, **training: Any
) -> RunContext:
    """A run that takes milliseconds a step; made anew it is the same to the bit. Processes share it by `sharing`; its
    model is made, or read from where it was `stored` by the first to ask. A `server` among the settings of `training`
    draws its drafts."""
    spec = dict({**KINDS, **OTHERS, **FAULTY}[kind])
    lora, quantize = spec.pop("lora", None), spec.pop("quantize", None)
    model = {"path": "made", "precision": precision, "lora": {"rank": 2} if lora is True else lora}
    model |= spec.pop("model", {})
    stored = stored or bool(quantize)  # as a base is loaded
    if stored:
        name = "-".join(["base", *sorted({"experts", "encodes"} & {*spec})])
        model |= {"path": str(run.parent / name), **({"quantize": quantize} if quantize else {})}
    experts = {"num_local_experts": 4, "num_key_value_heads": 2} if spec.pop("experts", False) else {}
    encodes, world_of = spec.pop("encodes", False), {"kind": sharing, **spec.pop("world", {})}
    rows = pairs(spec.pop("numbers", False))
    given = {"run": str(run), "model": model, "world": world_of, **_settings(run, spec, training)}
    recipe = validate(Recipe, Document("test", given, {}))
    made, tokenizer = made_model(encodes=encodes, experts=experts)
    if recipe.model.precision == "float64":
        made = made.double()
    records = read_dataset(recipe, recipe.objective, rows)
    recipe = with_settled_world(recipe, records, Silent(), (made, tokenizer))
    policy, loaded = _model(recipe, made, tokenizer, stored=stored)
    policy.keep_masters()
    run.mkdir(parents=True, exist_ok=True)
    return RunContext(recipe, recipe.objective, policy, loaded, records, Silent(), {"python:brevity": brevity})


def _settings(run: Path, spec: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"train": "made", "heldout": {"count": 2}, **spec.pop("data", {})}
    if spec.get("algorithm", {}).get("kind") == "pdpo":
        data["generator"] = {"count": 4}
    server = training.pop("server", None)
    steps = {"steps": STEPS, "batch_size": 3, "checkpoint_every": 1, "evaluate_every": 2, "keep_checkpoints": 2}
    return {
        "data": data,
        "training": {**steps, **spec.pop("training", {}), **training},
        "optimizer": {"learning_rate": 1e-3},
        "sampling": {"max_new_tokens": 6, "server": server},
        "reference": {"cache": str(run.parent / "reference-cache")},
        **spec,
    }


def loop(run: Path, kind: str, *, resume: bool = True, **training: Any) -> Trainer:
    context = assembly(run, kind, **training)
    if context.recipe.reference.fit is not None:
        model = context.policy, context.loaded
        stage = fit_stage(context.recipe, context.dataset, model, run, Silent(), resume=resume)
        stage.train(resume=resume)
        again = assembly(run, kind, **training)
        context.policy, context.loaded = start_from_fit(stage, model, lambda: (again.policy, again.loaded))
    return build_trainer(context, run, resume=resume)


def stop_after(steps: int) -> Callable[[], bool]:
    left = iter([False] * (steps - 1) + [True] * 1000)
    return lambda: next(left)


def left_behind(run: Path) -> dict[str, bytes]:
    """What must not differ: the logs, and weights, optimizer and memory of the last checkpoint."""
    last = run / "checkpoints" / f"step-{STEPS}"
    files = [run / "metrics.jsonl", run / "samples.jsonl", *sorted(last.iterdir())]
    return {f.name: f.read_bytes() for f in files}
