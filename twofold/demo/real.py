"""`twofold demo --real`: a pretrained chat model learns to obey instructions that a program can check."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch

from twofold import disk, manifest
from twofold.datagen.build import BuildSettings, Built, build, read_for
from twofold.demo.introduction import REAL_INTRODUCTION
from twofold.demo.play import DemoResult, Subject, align
from twofold.demo.real_model import located
from twofold.demo.topics import rows
from twofold.ledger import write_rows
from twofold.progress import Progress
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sampling

NAMES = {"base": "base", "dpo": "DPO+NLL", "pdpo": "PDPO"}
MOST_THREADS = 8
"""More gain nothing on a model of this size."""


@dataclass(frozen=True)
class RealSize:
    """Completions of the base model per prompt, prompts per split (None: all), and other overrides of the recipes."""

    samples: int = 8
    prompts: int | None = None
    overrides: tuple[str, ...] = ()


def play_real(
    out: Path, *, model: str | None, seeds: int, progress: Progress, size: RealSize | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> DemoResult | None:  # fmt: skip
    """Align `model`, by default the real one, as `align` does. Raises ModelError where it cannot be had."""
    size, base = size or RealSize(), located(model)
    torch.set_num_threads(min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
    with as_file(files("twofold.demo") / "recipes") as recipes:
        subject = Subject(
            command="twofold demo --real",
            base=base,
            recipes=recipes / "real",
            make_data=lambda folder, progress: make_data(folder, base, size, progress),
            introduction=REAL_INTRODUCTION,
            measure="Instructions obeyed, greedy, on topics that were not trained on",
            overrides=size.overrides,
            win_rates=True,
            names=NAMES,
            caches=False,
        )
        return align(subject, out, seeds=seeds, progress=progress, stop=stop)


def make_data(folder: Path, base: str, size: RealSize, progress: Progress) -> None:
    """Pairs of the base model's own completions, one that obeys over one that does not. An interrupted build
    resumes."""
    train, test = (list(rows(split))[: size.prompts] for split in ("train", "test"))
    weights = Path(base) / "model.safetensors"
    wanted = {"samples": size.samples, "train": train, "test": test}
    wanted["base"] = disk.sha256(weights) if weights.is_file() else base
    if manifest.made_of(folder) == wanted:
        return
    disk.make_folder(folder)
    write_rows(folder / "prompts.jsonl", train)
    write_rows(folder / "test.jsonl", test)
    built = build_pairs(folder, base, size.samples, progress)
    progress.note(f"{built.rows} pairs from {built.used} of {built.questions} prompts")
    manifest.write(folder, ["pairs.jsonl", "test.jsonl"], of=wanted)


def build_pairs(folder: Path, base: str, samples: int, progress: Progress) -> Built:
    """Answer `prompts.jsonl` of the folder `samples` times each with the base, and write `pairs.jsonl`: every answer
    that obeys its rules over every one that does not."""
    how = BuildSettings(
        models=(base,),
        judge="verifier:instructions",
        samples=samples,
        all_pairs=True,
        sampling=Sampling(max_new_tokens=64, batch_size=64),
    )
    return build(read_for(how, str(folder / "prompts.jsonl")), how, folder / "pairs.jsonl", open_reward, progress)
