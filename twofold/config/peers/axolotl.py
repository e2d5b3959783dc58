"""axolotl: the YAML file of `axolotl train FILE`."""

from __future__ import annotations

from typing import Any

from twofold.config.peers.adapters import read_bits, read_lora
from twofold.config.peers.reader import Reader
from twofold.config.peers.sums import summed
from twofold.config.peers.training_arguments import read_training_arguments
from twofold.errors import RecipeError

STAGES = ("sft", "dpo", "ipo", "kto", "orpo", "simpo", "reward")
_NAMES = {  # its names for what transformers' TrainingArguments have
    "micro_batch_size": "per_device_train_batch_size", "num_epochs": "num_train_epochs", "optimizer": "optim",
    "lr_scheduler": "lr_scheduler_type",
}  # fmt: skip
_LORA = {
    "lora_r": "rank", "lora_alpha": "alpha", "lora_target_modules": "targets",
    "lora_modules_to_save": "modules_to_save", "peft_use_rslora": "rslora", "peft_use_dora": "dora",
}  # fmt: skip
_WITHOUT_EFFECT = (
    "base_model_config", "model_type", "tokenizer_type", "is_llama_derived_model", "dataset_prepared_path",
    "dataset_processes", "sample_packing", "eval_sample_packing", "pad_to_sequence_len", "flash_attention",
    "sdp_attention", "xformers_attention", "eager_attention", "group_by_length", "debug", "strict", "plugins",
    "wandb_entity", "wandb_name", "wandb_watch", "wandb_run_id", "wandb_log_model", "wandb_mode", "eval_batch_size",
    "early_stopping_patience", "early_stopping", "loss_watchdog_threshold", "loss_watchdog_patience", "save_first_step",
    "liger_rope", "liger_rms_norm", "liger_glu_activation", "liger_fused_linear_cross_entropy", "rl", "reward_model",
    "load_in_4bit", "load_in_8bit", "lora_target_linear", "lora_fan_in_fan_out", "trust_remote_code", "tf32",
)  # fmt: skip


def convert(values: dict[str, Any], stage: str | None) -> Reader:
    """Read a configuration of the stage that `rl` names, SFT without one. Raises RecipeError for one not here."""
    stage = stage or str(values.get("rl") or ("reward" if values.get("reward_model") else "sft"))
    if stage not in STAGES:
        raise RecipeError(f"{stage} cannot be imported", where="rl", remedy=f"one of {', '.join(STAGES)}")
    renamed = {_NAMES.get(key, key): value for key, value in values.items()}
    reader = Reader(renamed, {"per_device_train_batch_size": 1, "num_train_epochs": 1, "lr_scheduler_type": "cosine"})
    read_training_arguments(reader)
    _model(reader)
    _data(reader)
    _objective(reader, stage)
    return reader


def _model(reader: Reader) -> None:
    reader.carry("base_model", "model.path")
    reader.carry("revision_of_model", "model.revision")
    adapter = reader.get("adapter")
    if adapter in ("lora", "qlora"):
        read_lora(reader, _LORA)
        if reader.get("lora_target_linear") or not reader.get("lora_target_modules"):
            reader.set("model.lora.targets", "all-linear")
    else:
        reader.lose("adapter", "only lora and qlora can be imported", ("",))
        reader.skip(*_LORA, "lora_dropout")
    read_bits(reader, adapter == "qlora" or bool(reader.get("load_in_4bit")), bool(reader.get("load_in_8bit")))
    reader.carry("lora_model_dir", "model.adapter", str)
    reader.carry("tokens", "model.add_tokens", list)
    reader.lose("special_tokens", "save the tokenizer with these tokens; `model.add_tokens` adds new ones")
    reader.lose("chat_template", "the tokenizer's own chat template is used", ("tokenizer_default",))
    reader.lose("unfrozen_parameters", "all weights are trained, or an adapter")
    reader.skip(*_WITHOUT_EFFECT)


def _data(reader: Reader) -> None:
    sources = [_source(reader, "datasets", part) for part in reader.sections("datasets")]
    if sources:
        plain = len(sources) == 1 and len(sources[0]) == 1
        reader.set("data.train", sources[0]["file"] if plain else sources)
    held = [_source(reader, "test_datasets", part) for part in reader.sections("test_datasets")]
    size = float(reader.get("val_set_size", 0) or 0)
    if held:
        reader.set("data.heldout", held[0])
        if held[1:]:
            reader.lose("test_datasets", "only the first file is measured")
    elif size:
        reader.set("data.heldout", {"count": int(size)} if size >= 1 else {"fraction": size})
    reader.carry("sequence_len", "data.tokenize.max_length", int)
    if reader.get("wandb_project"):
        reader.set("training.track", "wandb")
    reader.lose("train_on_inputs", "only completions are trained on")
    for key in ("evals_per_epoch", "saves_per_epoch"):
        reader.lose(key, "`training.evaluate_every` and `training.checkpoint_every` count steps")
    reader.skip("shuffle_merged_datasets", "dataset_keep_in_memory")


def _source(reader: Reader, key: str, part: dict[str, Any]) -> dict[str, Any]:
    source: dict[str, Any] = {"file": part.get("data_files") or part.get("path")}
    if isinstance(source["file"], list):
        source["file"] = source["file"][0]
    if part.get("split", "train") != "train":
        source["split"] = part["split"]
    left = [name for name in part if name not in ("path", "split", "ds_type", "data_files")]
    if left:
        reader.lose(key, f"of {source['file']}: {', '.join(left)}; formats are recognized, `columns` renames fields")
    return source


def _objective(reader: Reader, stage: str) -> None:
    beta = float(reader.get("rl_beta", reader.get("dpo_beta", 0.1)))
    nll, smoothing = float(reader.get("rpo_alpha", 0.0)), float(reader.get("dpo_label_smoothing", 0.0))
    weights = [float(reader.get(f"kto_{name}_weight", 1.0)) for name in ("desirable", "undesirable")]
    objectives: dict[str, dict[str, Any]] = {
        "sft": {"kind": "sft"},
        "reward": {"kind": "bradley_terry"},
        "dpo": {"kind": "dpo", "beta": beta, "label_smoothing": smoothing},
        "ipo": {"kind": "ipo", "tau": beta, "logratio": "mean"},
        "kto": {"kind": "kto", "beta": beta, "desirable_weight": weights[0], "undesirable_weight": weights[1]},
        "orpo": {"kind": "orpo", "lam": float(reader.get("orpo_alpha", beta))},
        "simpo": {"kind": "simpo", "beta": beta, "gamma": float(reader.get("simpo_gamma", 0.5))},
    }
    objective = {key: value for key, value in objectives[stage].items() if value != 0.0 or key == "gamma"}
    likelihood = {"dpo": nll, "ipo": nll, "simpo": float(reader.get("cpo_alpha", 1.0))}.get(stage, 0.0)
    reader.set("objective", summed([(objective, 1.0), ({"kind": "sft"}, likelihood)]))
    if stage not in ("dpo", "ipo"):
        reader.lose("rpo_alpha", f"axolotl adds no likelihood to {stage} by it", (0, 0.0))
    if stage != "simpo":
        reader.lose("cpo_alpha", f"axolotl adds no likelihood to {stage} by it", (0, 0.0))
    reader.skip("rl_beta", "dpo_beta", "rpo_alpha", "simpo_gamma", "orpo_alpha", "dpo_label_smoothing")
