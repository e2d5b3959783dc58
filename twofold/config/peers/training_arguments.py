"""Keys of transformers' TrainingArguments, which TRL and LLaMA-Factory take as they are."""

from __future__ import annotations

from typing import Any

from twofold.config.peers.reader import Reader

OPTIMIZERS = {
    "adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_hf": "adamw", "paged_adamw_32bit": "adamw",
    "adamw_8bit": "adamw_8bit", "adamw_bnb_8bit": "adamw_8bit", "paged_adamw_8bit": "adamw_8bit",
    "adafactor": "adafactor", "rmsprop": "rmsprop", "sgd": "sgd", "muon": "muon",
}  # fmt: skip
SCHEDULES = {
    "linear": "linear", "cosine": "cosine", "cosine_with_min_lr": "cosine", "constant": "constant",
    "constant_with_warmup": "constant",
}  # fmt: skip
TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
WITHOUT_EFFECT = (
    "accelerator_config", "attn_implementation", "auto_find_batch_size", "bf16_full_eval", "data_seed",
    "dataloader_drop_last", "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory",
    "dataloader_prefetch_factor", "dataset_num_proc", "ddp_backend", "ddp_find_unused_parameters", "ddp_timeout",
    "disable_tqdm", "do_eval", "do_predict", "do_train", "dtype", "eval_accumulation_steps", "eval_on_start",
    "fp16_full_eval", "full_determinism", "gradient_checkpointing_kwargs", "group_by_length",
    "include_num_input_tokens_seen", "local_rank", "log_level", "logging_dir", "logging_first_step", "logging_steps",
    "logging_strategy", "overwrite_output_dir", "pad_to_multiple_of", "padding_free", "per_device_eval_batch_size",
    "plot_loss", "precompute_ref_batch_size", "precompute_ref_log_probs", "prediction_loss_only",
    "preprocessing_num_workers", "project", "remove_unused_columns", "resume_from_checkpoint", "run_name",
    "save_only_model", "save_safetensors", "save_strategy", "tf32", "torch_compile", "torch_dtype", "use_cache",
    "use_cpu", "use_liger_kernel",
)  # fmt: skip
"""They change speed, logging or hardware, or twofold does so always: no result depends on them."""


def read_training_arguments(reader: Reader) -> None:
    """Optimizer, schedule, steps, batch, precision, checkpoints."""
    _batch(reader)
    _optimizer(reader)
    _precision(reader)
    _intervals(reader)
    reader.carry("seed", "seed")
    reader.carry("output_dir", "run", str)
    reader.lose("neftune_noise_alpha", "no noise is added to embeddings")
    reader.lose("label_smoothing_factor", "token labels are not smoothed", (0, 0.0))
    for key in ("deepspeed", "fsdp", "fsdp_config", "parallelism_config"):
        reader.lose(
            key, "start with `--processes N` or torchrun; `world.kind` chooses how the model is sharded", ("", {})
        )
    for key in ("push_to_hub", "hub_model_id", "hub_token", "hub_strategy", "hub_private_repo"):
        reader.lose(key, "a run does not upload; `twofold push` uploads a finished run", ("", "every_save"))
    reader.skip(*WITHOUT_EFFECT)


def _batch(reader: Reader) -> None:
    rows = int(reader.get("per_device_train_batch_size", 8)) * int(reader.get("gradient_accumulation_steps", 1))
    reader.set("training.batch_size", rows)
    if int(reader.get("max_steps", -1)) > 0:
        reader.set("training.steps", int(reader.get("max_steps")))
        reader.skip("num_train_epochs")
    else:
        reader.carry("num_train_epochs", "training.epochs", float)


def _optimizer(reader: Reader) -> None:
    optimizer = str(reader.get("optim", "adamw_torch"))
    kind = OPTIMIZERS.get(optimizer)
    if kind is None:
        reader.lose("optim", "this optimizer is not there; the recipe takes adamw")
    reader.set("optimizer.kind", kind or "adamw")
    reader.carry("learning_rate", "optimizer.learning_rate", float)
    reader.carry("weight_decay", "optimizer.weight_decay", float)
    reader.carry("max_grad_norm", "optimizer.clip", lambda norm: float(norm) or None)
    betas = reader.get("adam_beta1", 0.9), reader.get("adam_beta2", 0.999)
    epsilon = reader.get("adam_epsilon")
    if kind in ("adamw", "adamw_8bit", "muon"):
        if tuple(map(float, betas)) != (0.9, 0.999):
            reader.set("optimizer.betas", [float(beta) for beta in betas])
        if epsilon is not None:
            reader.set("optimizer.epsilon", float(epsilon))
    _schedule(reader)
    reader.lose("optim_args", "options of an optimizer are settings of their own: docs/recipe.md")


def _schedule(reader: Reader) -> None:
    name = str(reader.get("lr_scheduler_type", "linear"))
    if name not in SCHEDULES:
        reader.lose("lr_scheduler_type", "this schedule is not there; the recipe takes linear")
    reader.set("optimizer.schedule", SCHEDULES.get(name, "linear"))
    options: dict[str, Any] = dict(reader.get("lr_scheduler_kwargs") or {})
    if (ratio := options.pop("min_lr_rate", None)) is not None:
        reader.set("optimizer.min_lr_ratio", float(ratio))
    if options:
        reader.lose("lr_scheduler_kwargs", "only min_lr_rate has a setting: `optimizer.min_lr_ratio`")
    steps, ratio = float(reader.get("warmup_steps", 0)), float(reader.get("warmup_ratio", 0))
    warmup = steps or ratio  # transformers: steps win where both are set
    reader.set("optimizer.warmup", 0.0 if name == "constant" else warmup)


def _precision(reader: Reader) -> None:
    if reader.get("bf16") in (True, "auto", "full"):
        reader.set("model.precision", "bfloat16")
    reader.lose(
        "fp16", "float16 needs loss scaling, which is not there; precision auto takes bfloat16 where it is fast"
    )
    if reader.get("gradient_checkpointing"):
        reader.set("model.activation_checkpointing", True)


def _intervals(reader: Reader) -> None:
    strategy = str(reader.get("eval_strategy", reader.get("evaluation_strategy", "no")))
    if strategy == "steps" and (steps := reader.get("eval_steps")):
        _whole(reader, "eval_steps", steps, "training.evaluate_every")
    reader.skip("eval_steps", "eval_delay")
    if (steps := reader.get("save_steps")) and "save_steps" in reader.values:
        _whole(reader, "save_steps", steps, "training.checkpoint_every")
    reader.carry("save_total_limit", "training.keep_checkpoints", int)
    names = reader.words("report_to")
    wanted = [name for name in names if name in TRACKERS]
    if wanted:
        reader.set("training.track", wanted[0])
    if wanted[1:] or any(name not in (*TRACKERS, "none", "all") for name in names):
        reader.lose("report_to", "one tracker at a time: " + ", ".join(TRACKERS))
    for key in ("load_best_model_at_end", "metric_for_best_model", "greater_is_better"):
        reader.lose(key, "set `training.best_metric` to a figure of twofold's, such as heldout/accuracy")


def _whole(reader: Reader, key: str, steps: Any, path: str) -> None:
    if float(steps) >= 1:
        reader.set(path, int(steps))
    else:
        reader.lose(key, f"a share of all steps; `{path}` counts steps")
