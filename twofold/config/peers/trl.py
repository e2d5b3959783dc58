"""TRL 1.16: the YAML file of `trl dpo --config FILE`, or the fields of a DPOConfig and its kin as YAML or JSON."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twofold.config.peers.adapters import read_bits, read_lora
from twofold.config.peers.reader import Reader
from twofold.config.peers.sums import summed
from twofold.config.peers.training_arguments import read_training_arguments
from twofold.errors import RecipeError

STAGES = ("dpo", "sft", "kto", "reward", "prm", "grpo", "rloo", "cpo", "orpo")
_RATES = {"sft": 2e-5, "reward": 1e-4, "prm": 1e-5}
_TRUNCATION = {"keep_start": "cut_completion", "keep_end": "cut_prompt"}
_LORA = {
    "lora_r": "rank", "lora_alpha": "alpha", "lora_target_modules": "targets",
    "lora_modules_to_save": "modules_to_save", "use_rslora": "rslora", "use_dora": "dora",
}  # fmt: skip
_MOVING = {"ref_model_mixup_alpha": "reference.alpha", "ref_model_sync_steps": "reference.sync_every"}


def convert(values: dict[str, Any], stage: str | None) -> Reader:
    """Read a configuration of `stage`, by default the one that its keys show. Raises RecipeError where none do."""
    stage = stage or _stage(values)
    reader = Reader(values, {"learning_rate": _RATES.get(stage, 1e-6), "num_train_epochs": 3, "max_length": 1024})
    read_training_arguments(reader)
    _model(reader)
    _data(reader)
    {"grpo": _on_policy, "rloo": _on_policy, "dpo": _dpo, "cpo": _cpo}.get(stage, _others)(reader, stage)
    reader.carry("vllm_server_base_url", "sampling.server.url")
    return reader


def _stage(values: dict[str, Any]) -> str:
    losses = Reader(values).words("loss_type")
    for keys, stage in (
        (("num_generations",), "grpo"),
        (("desirable_weight", "undesirable_weight"), "kto"),
        (("center_rewards_coefficient",), "reward"),
        (("step_separator", "train_on_last_step_only"), "prm"),
        (("cpo_alpha", "simpo_gamma"), "cpo"),
        (("packing", "assistant_only_loss", "completion_only_loss", "dataset_text_field"), "sft"),
    ):
        if any(key in values for key in keys):
            return stage
    if "beta" in values or any(loss in _DPO for loss in losses):
        return "dpo"
    raise RecipeError(
        "no key of this file shows which trainer it is for",
        where="--stage",
        remedy=f"name it: {', '.join(STAGES)}",
    )


def _model(reader: Reader) -> None:
    reader.carry("model_name_or_path", "model.path")
    if reader.get("model_revision", "main") != "main":
        reader.carry("model_revision", "model.revision")
    if reader.get("use_peft"):
        read_lora(reader, _LORA)
    else:
        reader.skip(*_LORA, "lora_dropout")
    read_bits(reader, bool(reader.get("load_in_4bit")), bool(reader.get("load_in_8bit")))
    reader.carry("router_aux_loss_coef", "model.router_aux_loss_coef", float)
    reader.carry("chat_template_kwargs", "model.template_arguments")
    reader.lose("trust_remote_code", "code of a hub repository is never run")
    reader.lose("lora_target_parameters", "experts are adapted by `model.lora.targets: [experts]`")
    reader.lose("model_init_kwargs", "arguments of from_pretrained are settings of `model`: docs/recipe.md")
    reader.lose("chat_template_path", "the tokenizer's own chat template is used; save yours with the tokenizer")
    reader.lose("activation_offloading", "activations stay on the device; model.activation_checkpointing saves memory")
    reader.skip("use_peft", "lora_task_type", "disable_dropout", "ds3_gather_for_generation", "cast_lm_head_to_fp32")


def _data(reader: Reader) -> None:
    if mixture := reader.sections("datasets"):
        reader.set("data.train", [_source(reader, part) for part in mixture])
    else:
        reader.carry("dataset_name", "data.train")
        if reader.get("dataset_train_split", "train") != "train":
            reader.carry("dataset_train_split", "data.split")
        if reader.get("eval_strategy", "no") != "no" and reader.get("dataset_name"):
            reader.set(
                "data.heldout", {"file": reader.get("dataset_name"), "split": reader.get("dataset_test_split", "test")}
            )
    if reader.get("dataset_streaming"):
        reader.set("data.stream", True)
    reader.lose("dataset_config", "write the files of this configuration into `data.train`")
    reader.carry("max_length", "data.tokenize.max_length", int)
    truncation = reader.get("truncation_mode", "keep_start")
    reader.set("data.tokenize.truncation", _TRUNCATION.get(truncation, "cut_completion"))
    for key in ("max_prompt_length", "max_completion_length"):
        if "num_generations" not in reader.values:
            reader.lose(key, "only prompt and completion together have a limit: `data.tokenize.max_length`")
    reader.skip("dataset_test_split", "ignore_bias_buffers", "shuffle_dataset", "label_pad_token_id", "padding_value",
                "pad_token", "generate_during_eval", "packing", "packing_strategy", "eval_packing")  # fmt: skip


def _source(reader: Reader, part: dict[str, Any]) -> dict[str, Any]:
    source = {"file": part.get("path")} | ({"split": part["split"]} if "split" in part else {})
    left = [key for key in part if key not in ("path", "split")]
    if left:
        reader.lose("datasets", f"of {part.get('path')}: {', '.join(left)} has no setting; `columns` renames fields")
    return source


_DPO = {
    "sigmoid": "dpo", "hinge": "rso", "ipo": "ipo", "exo_pair": "exo", "nca_pair": "nca", "robust": "robust_dpo",
    "bco_pair": "bco_pair", "sppo_hard": "sppo", "aot": "aot", "aot_unpaired": "aot", "apo_zero": "anchored_po",
    "apo_down": "anchored_po", "discopop": "discopop", "sigmoid_norm": "ln_dpo",
}  # fmt: skip


def _dpo(reader: Reader, stage: str) -> None:
    losses = reader.words("loss_type") or ["sigmoid"]
    weights = [float(weight) for weight in reader.words("loss_weights")] or [1.0] * len(losses)
    if len(weights) != len(losses):
        what = f"holds {len(weights)} numbers for {len(losses)} losses"
        raise RecipeError(what, where="loss_weights", remedy="write one for each loss of loss_type")
    _refuse_on_several(reader, [loss for loss, weight in zip(losses, weights, strict=True) if weight])
    parts = [(_objective(reader, loss), weight) for loss, weight in zip(losses, weights, strict=True)]
    if reader.get("label_smoothing") and not any({"label_smoothing", "epsilon"} & {*part} for part, _ in parts):
        reader.lose("label_smoothing", f"{parts[0][0]['kind']} has no label smoothing")
    reader.set("objective", summed(parts))
    reader.skip("ld_alpha", "use_weighting", "f_divergence_type", "f_alpha_divergence_coef", "label_smoothing",
                "discopop_tau", "beta")  # fmt: skip
    _reference(reader)


def _objective(reader: Reader, loss: str) -> dict[str, Any]:
    """The objective for one `loss`, with the settings that TRL shares among all of them."""
    if loss == "sft":
        return {"kind": "sft"}
    if loss not in _DPO:
        raise RecipeError(f"{loss} has no objective here", where="loss_type", remedy=f"one of {', '.join(_DPO)}, sft")
    beta, smoothing = float(reader.get("beta", 0.1)), float(reader.get("label_smoothing", 0.0))
    objective: dict[str, Any] = {"kind": _DPO[loss]} | _options(loss, beta, smoothing, reader)
    return _variant(reader, objective) if loss == "sigmoid" else objective


def _refuse_on_several(reader: Reader, losses: Collection[str]) -> None:
    """Raise RecipeError for options that TRL applies to all losses, and that only DPO has here."""
    for key, without, spared in (
        ("use_weighting", False, ()),
        ("ld_alpha", None, ("sft",)),
        ("f_divergence_type", "reverse_kl", ("sft",)),
    ):
        other = next((loss for loss in losses if loss not in ("sigmoid", *spared)), None)
        if other is not None and reader.get(key, without) != without:
            what = f"changes {other} too, and no objective here has that"
            raise RecipeError(what, where=key, remedy="leave it out, or keep only sigmoid in loss_type")


def _options(loss: str, beta: float, smoothing: float, reader: Reader) -> dict[str, Any]:
    """The settings of the objective for `loss`, whose strength TRL calls beta in each case."""
    if loss == "hinge":
        return {"gamma": beta}
    if loss == "ipo":
        return {"tau": beta, "logratio": "mean"}  # TRL averages over tokens
    if loss == "sppo_hard":
        return {"eta": 1 / beta}
    extra: dict[str, Any] = {
        "sigmoid": {"label_smoothing": smoothing} if smoothing else {},
        "exo_pair": {"epsilon": smoothing} if smoothing else {},
        "robust": {"epsilon": smoothing},
        "aot": {"label_smoothing": smoothing} if smoothing else {},
        "aot_unpaired": {"form": "unpaired"} | ({"label_smoothing": smoothing} if smoothing else {}),
        "apo_zero": {"anchor": "zero"},
        "apo_down": {"anchor": "down"},
        "discopop": {"tau": float(reader.get("discopop_tau", 0.05))},
    }
    return {"beta": beta} | extra.get(loss, {})


def _variant(reader: Reader, objective: dict[str, Any]) -> dict[str, Any]:
    """DPO with one of the options that make it another objective here."""
    beta = {"beta": objective["beta"]}
    divergence = reader.get("f_divergence_type", "reverse_kl")
    found: list[dict[str, Any]] = []
    if divergence != "reverse_kl":
        name = str(divergence).removesuffix("_divergence")
        alpha = {"alpha": float(reader.get("f_alpha_divergence_coef", 0.5))} if name == "alpha" else {}
        found.append({"kind": "f_dpo", **beta, "divergence": name, **alpha})
    if reader.get("ld_alpha") is not None:
        found.append({"kind": "ld_dpo", **beta, "alpha": float(reader.get("ld_alpha"))})
    if reader.get("use_weighting"):
        found.append({"kind": "wpo", **beta})
    if len(found) > 1:
        reader.lose(
            "loss_type", f"{found[0]['kind']} and {found[1]['kind']} at once have no objective; the first is taken"
        )
    return found[0] if found else objective


def _reference(reader: Reader) -> None:
    if reader.get("sync_ref_model"):
        reader.set("reference.kind", "moving")
        for key, path in _MOVING.items():
            reader.carry(key, path)
    else:
        reader.skip(*_MOVING)
    reader.lose("ref_model_init_kwargs", "the reference is the model that training starts from")
    reader.skip("sync_ref_model")


def _cpo(reader: Reader, stage: str) -> None:
    """One loss without a reference, and the likelihood of chosen."""
    beta, smoothing = float(reader.get("beta", 0.1)), float(reader.get("label_smoothing", 0.0))
    loss = (reader.words("loss_type") or ["sigmoid"])[0]
    objective: dict[str, Any] = {"kind": "cpo", "beta": beta, "nll": 0.0}
    if loss == "simpo":
        objective = {"kind": "simpo", "beta": beta, "gamma": float(reader.get("simpo_gamma", 0.5))}
    elif loss == "ipo":
        objective = {"kind": "ipo", "tau": beta, "logratio": "mean", "reference_free": True}
    elif smoothing:
        objective = {"kind": "dpo", "beta": beta, "label_smoothing": smoothing, "reference_free": True}
    if loss not in ("sigmoid", "simpo", "ipo"):
        reader.lose("loss_type", "CPO is computed with its sigmoid loss")
    if loss in ("simpo", "ipo"):
        reader.lose("label_smoothing", f"{loss} has no label smoothing", (0, 0.0))
    reader.set("objective", summed([(objective, 1.0), ({"kind": "sft"}, float(reader.get("cpo_alpha", 1.0)))]))
    reader.skip("simpo_gamma", "label_smoothing")


def _others(reader: Reader, stage: str) -> None:
    if stage == "sft":
        reader.set("objective", {"kind": "sft"})
        if reader.get("assistant_only_loss"):
            reader.set("data.tokenize.loss_on", "all")
        reader.lose("loss_type", "SFT is computed with its negative log-likelihood", ("nll", "chunked_nll"))
        reader.skip("completion_only_loss", "dataset_text_field", "dataset_kwargs", "eos_token")
    elif stage == "kto":
        weights = {key: float(reader.get(key, 1.0)) for key in ("desirable_weight", "undesirable_weight")}
        reader.set("objective", {"kind": "kto", "beta": float(reader.get("beta", 0.1)), **weights})
        reader.lose("loss_type", "KTO is computed with its own loss", ("kto",))
        _reference(reader)
    elif stage == "reward":
        centring = reader.get("center_rewards_coefficient")
        reader.set("objective", {"kind": "bradley_terry"} | ({"centring": float(centring)} if centring else {}))
        reader.skip("eos_token")
    elif stage == "prm":
        reader.set("objective", {"kind": "process_reward"})
        reader.carry("step_separator", "data.tokenize.step_separator")
        reader.lose("train_on_last_step_only", "write null as the label of every step but the last", (False,))
    else:
        reader.set("objective", {"kind": "orpo", "lam": float(reader.get("beta", 0.1))})


def _on_policy(reader: Reader, stage: str) -> None:
    samples = int(reader.get("num_generations", 8 if stage == "grpo" else 2))
    rows = reader.recipe["training"]["batch_size"]
    reader.set("training.batch_size", max(1, rows // samples))  # TRL counts completions, a recipe prompts
    reader.set("algorithm", {"kind": "policy_gradient", "samples": samples})
    reader.carry("num_iterations", "algorithm.epochs", int)
    reader.set("sampling.max_new_tokens", int(reader.get("max_completion_length", 512)))
    for key, of_the_policy in (("temperature", 1), ("top_p", 1), ("top_k", 0), ("repetition_penalty", 1)):
        reader.lose(key, f"samples are drawn from the policy itself: {key} {of_the_policy}", (of_the_policy, -1))
    if stage == "grpo":
        reader.set("objective", _grpo(reader))
    else:
        clip = reader.get("epsilon", 0.2) if int(reader.get("num_iterations", 1)) > 1 else None
        reader.set("objective", {"kind": "rloo"} | ({"clip": float(clip)} if clip else {}))
        reader.set("algorithm.kl", {"coefficient": float(reader.get("beta", 0.05))})
        reader.skip("epsilon")
    reader.lose("reward_funcs", "Python functions: name a judge in `algorithm.reward` (docs/judges.md)")
    reader.lose("reward_model_name_or_path", "name it as `algorithm.reward: reward:FOLDER`")
    reader.lose("reward_weights", "weights are next to each judge: `algorithm.reward: [{source: …, weight: …}]`")
    for key in ("importance_sampling_level", "multi_objective_aggregation"):
        reader.lose(key, "only the default has a setting", ("token", "sum_then_normalize"))
    reader.skip("steps_per_generation", "generation_batch_size", "use_vllm", "vllm_mode", "log_completions",
                "num_generations_eval", "vllm_gpu_memory_utilization", "vllm_tensor_parallel_size", "scale_rewards",
                "vllm_server_host", "vllm_server_port", "vllm_server_timeout")  # fmt: skip
    if reader.get("vllm_mode") == "server" and not reader.get("vllm_server_base_url"):
        host, port = reader.get("vllm_server_host", "127.0.0.1"), reader.get("vllm_server_port", 8000)
        reader.set("sampling.server", {"url": f"http://{host}:{port}"})


def _grpo(reader: Reader) -> dict[str, Any]:
    average = {"grpo": "completion", "dr_grpo": "constant"}.get(str(reader.get("loss_type", "dapo")), "token")
    scale = {"group": "group", "True": "group", "batch": "rollout"}.get(
        str(reader.get("scale_rewards", "group")), "none"
    )
    objective: dict[str, Any] = {
        "kind": "grpo",
        "beta": float(reader.get("beta", 0.0)),
        "average": average,
        "scale": scale,
    }
    objective["clip"] = float(reader.get("epsilon", 0.2))
    if (high := reader.get("epsilon_high")) is not None:
        objective["clip_high"] = float(high)
    if average == "constant":
        objective["length"] = int(reader.get("max_completion_length", 512))
    return objective
