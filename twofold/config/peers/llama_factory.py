"""LLaMA-Factory: the YAML file of `llamafactory-cli train FILE`."""

from __future__ import annotations

from typing import Any

from twofold.config.peers.adapters import read_bits, read_lora
from twofold.config.peers.reader import Reader
from twofold.config.peers.training_arguments import read_training_arguments
from twofold.errors import RecipeError

STAGES = ("sft", "dpo", "kto", "rm")
_LORA = {
    "lora_rank": "rank", "lora_alpha": "alpha", "lora_target": "targets", "additional_target": "modules_to_save",
    "use_rslora": "rslora", "use_dora": "dora",
}  # fmt: skip
_DATA = "its names are in dataset_info.json: write the file or hub name itself into `data.train`"


def convert(values: dict[str, Any], stage: str | None) -> Reader:
    """Read a configuration of its own `stage`, unless another is named. Raises RecipeError for one not here."""
    stage = stage or str(values.get("stage") or "sft")
    if stage not in STAGES:
        raise RecipeError(f"{stage} cannot be imported", where="stage", remedy=f"one of {', '.join(STAGES)}")
    rank = int(values.get("lora_rank") or 8)
    reader = Reader(values, {"learning_rate": 5e-5, "num_train_epochs": 3, "lora_rank": rank, "lora_alpha": 2 * rank})
    read_training_arguments(reader)
    _model(reader)
    _data(reader)
    _objective(reader, stage)
    return reader


def _model(reader: Reader) -> None:
    reader.carry("model_name_or_path", "model.path")
    if reader.get("model_revision", "main") != "main":
        reader.carry("model_revision", "model.revision")
    kind = reader.get("finetuning_type", "lora")
    if kind == "lora":
        read_lora(reader, _LORA)
        reader.carry("adapter_name_or_path", "model.adapter", str)
        if reader.get("adapter_name_or_path"):
            reader.recipe["model"].pop("lora")
    else:
        reader.skip(*_LORA, "lora_dropout")
        reader.lose("finetuning_type", "all weights are trained", ("full",))
    bits = int(reader.get("quantization_bit", 0) or 0)
    read_bits(reader, bits == 4, bits == 8)
    if (thinking := reader.get("enable_thinking")) is not None:
        reader.set("model.template_arguments", {"enable_thinking": thinking})
    reader.lose(
        "template", "the tokenizer's own chat template is used; check a row with `twofold data show`", ("default",)
    )
    for key in ("pissa_init", "loraplus_lr_ratio", "use_galore", "use_badam", "use_apollo", "freeze_trainable_layers"):
        reader.lose(key, "twofold has no such method")
    reader.skip("trust_remote_code", "flash_attn", "cache_dir", "use_fast_tokenizer", "upcast_layernorm",
                "quantization_method", "quantization_type", "double_quantization", "enable_liger_kernel",
                "use_unsloth", "low_cpu_mem_usage", "resize_vocab", "pure_bf16", "create_new_adapter")  # fmt: skip


def _data(reader: Reader) -> None:
    files = reader.words("dataset")
    if files:
        reader.set("data.train", files[0] if len(files) == 1 else [{"file": name} for name in files])
        reader.lose("dataset", _DATA)
    reader.set("data.tokenize.max_length", int(reader.get("cutoff_len", 2048)))
    reader.set("data.tokenize.truncation", "cut_completion")
    reader.carry("max_samples", "data.limit", int)
    held = float(reader.get("val_size", 0) or 0)
    if held:
        reader.set("data.heldout", {"count": int(held)} if held >= 1 else {"fraction": held})
    reader.lose("eval_dataset", "write the file into `data.heldout.file`")
    reader.lose(
        "mix_strategy", "files are concatenated; `data.train: [{file: …, weight: …}]` mixes by shares", ("concat",)
    )
    reader.lose("train_on_prompt", "only completions are trained on")
    reader.skip("dataset_dir", "overwrite_cache", "buffer_size", "interleave_probs", "packing", "neat_packing",
                "mask_history", "streaming", "tokenized_path", "media_dir", "stage")  # fmt: skip


def _objective(reader: Reader, stage: str) -> None:
    beta, loss = float(reader.get("pref_beta", 0.1)), str(reader.get("pref_loss", "sigmoid"))
    nll, smoothing = float(reader.get("pref_ftx", 0.0)), float(reader.get("dpo_label_smoothing", 0.0))
    if stage == "sft":
        objective: dict[str, Any] = {"kind": "sft"}
    elif stage == "rm":
        objective = {"kind": "bradley_terry"}
    elif stage == "kto":
        weights = (float(reader.get("kto_chosen_weight", 1.0)), float(reader.get("kto_rejected_weight", 1.0)))
        objective = {"kind": "kto", "beta": beta, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
    else:
        objectives: dict[str, dict[str, Any]] = {
            "sigmoid": {"kind": "dpo", "beta": beta, "label_smoothing": smoothing, "nll": nll},
            "hinge": {"kind": "rso", "gamma": beta},
            "ipo": {"kind": "ipo", "tau": beta, "logratio": "mean", "nll": nll},
            "orpo": {"kind": "orpo", "lam": beta},
            "simpo": {"kind": "simpo", "beta": beta, "gamma": float(reader.get("simpo_gamma", 0.5))},
        }
        if loss not in objectives:
            raise RecipeError(
                f"{loss} has no objective here", where="pref_loss", remedy=f"one of {', '.join(objectives)}"
            )
        objective = objectives[loss]
        if nll and "nll" not in objective:
            reader.lose("pref_ftx", f"{objective['kind']} has no mean of each completion's likelihood; it is left out")
    reader.lose("pref_bco_weight", "BCO with a running mean of rewards is no part of a sum; it is left out", (0, 0.0))
    reader.set("objective", {key: value for key, value in objective.items() if value != 0.0 or key == "gamma"})
    reader.lose("ref_model", "the reference is the model that training starts from")
    reader.skip("pref_beta", "pref_loss", "pref_ftx", "dpo_label_smoothing", "simpo_gamma", "kto_chosen_weight",
                "kto_rejected_weight")  # fmt: skip
