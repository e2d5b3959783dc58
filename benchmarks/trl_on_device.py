"""TRL's DPOTrainer at its fastest settings on this machine's device: wall seconds of a step. Needs TRL."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig  # type: ignore[import-not-found]  # an environment of its own

from benchmarks.trl_worker import Trainer


class Clock(TrainerCallback):
    """The time at the end of every step, when the device has done it."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def seconds_per_step(
    model: Any, rows: Sequence[Mapping[str, list[int]]], folder: Path, *, steps: int, rank: int | None
) -> float:
    """The mean of `steps` steps over all `rows`, after one that is not counted.

    With a `rank` an adapter is trained, its reference is the base, and a step is two halves: activations of both at
    once take more than 140 GiB at 7 billion weights. Without one the reference is computed before.
    """
    cuda, parts = torch.cuda.is_available(), 1 if rank is None else 2
    settings = DPOConfig(
        output_dir=str(folder), precompute_ref_log_probs=rank is None,
        per_device_train_batch_size=len(rows) // parts, gradient_accumulation_steps=parts,
        max_steps=steps + 1, num_train_epochs=1, learning_rate=1e-5, lr_scheduler_type="constant",
        optim="adamw_torch_fused", bf16=cuda, use_cpu=not cuda, gradient_checkpointing=False, max_length=None,
        dataloader_pin_memory=False, logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>")),
        pad_token="<pad>", eos_token="<end>",
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=settings, train_dataset=Dataset.from_list([dict(row) for row in rows] * (steps + 1)),
        processing_class=tokenizer,
        peft_config=None if rank is None else LoraConfig(r=rank, lora_alpha=32, target_modules="all-linear"),
    )  # fmt: skip
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return (clock.ends[-1] - clock.ends[0]) / steps
