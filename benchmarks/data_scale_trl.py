"""TRL's preparation of a file of pairs, run by `benchmarks.data_scale` in an environment that has TRL."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from datasets import load_dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer  # type: ignore[import-not-found]  # in its own environment


def main(model: str, path: str) -> None:
    """Load and tokenize as `DPOTrainer` does before its first step, with its defaults."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    data: Any = load_dataset("json", data_files=path, split="train")
    settings = DPOConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none", max_length=1024)
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    ready = DPOTrainer._prepare_dataset(trainer, data, tokenizer, settings, "train")
    print(len(ready), ready[0].keys())


if __name__ == "__main__":
    main(*sys.argv[1:])
