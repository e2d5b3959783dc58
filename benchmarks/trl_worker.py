"""TRL's DPOTrainer as it comes, on tokens made beforehand. Runs in the peer's environment (requirements-trl.txt)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer  # type: ignore[import-not-found]  # installed in the peer's environment only

from benchmarks.pairs import load
from benchmarks.turns import Job, Turns


class Trainer(DPOTrainer):
    """TRL's trainer on given tokens, keeping each step's loss. Nothing that it computes is changed."""

    def __init__(self, *args: Any, **further: Any) -> None:
        self.losses: list[torch.Tensor] = []
        super().__init__(*args, **further)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def training_step(self, *args: Any, **further: Any) -> torch.Tensor:
        loss = super().training_step(*args, **further)
        self.losses.append(loss.detach())
        return loss


class TakeTurns(TrainerCallback):
    """Stops between optimizer steps until it is this side's turn; collating the next batch counts, as for us."""

    def __init__(self, trainer: Trainer, job: Job, settings: dict[str, Any]) -> None:
        self.trainer, self.job = trainer, job
        self.turns = Turns(settings)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.turns.wait()

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step % self.job.steps == 0:
            losses = self.trainer.losses[-self.job.steps :]
            self.turns.answer(losses=[loss.item() for loss in losses])
            self.turns.wait()


def main(job: Job) -> None:
    """Train as `job` says. Settings: the ones that make TRL fastest on a CPU while computing what we compute."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "beta": job.beta,
        "precompute_ref_log_probs": job.reference == "cached",
        "per_device_train_batch_size": job.batch_size,
        "max_steps": job.turns * job.steps,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": job.clip,
        "bf16": job.precision == "bfloat16",
        "gradient_checkpointing": False,
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    rows = [{f"{k}_ids": v for k, v in pair.items()} for pair in load(job.pairs)]
    trainer = Trainer(
        model=model,
        args=DPOConfig(output_dir=str(Path(job.scratch) / "trl"), **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job.model),
    )
    settings["attention"] = model.config._attn_implementation
    trainer.add_callback(TakeTurns(trainer, job, settings))
    trainer.train()


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
