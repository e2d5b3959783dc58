"""What every cell of the arena starts from: a base model of the task, problems, pairs and reward models, made once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.arena_tasks import TASKS, Stories
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.data.tokenize import Encoder
from twofold.demo.build import BOS, EOS, PAD, BaseSettings, character_tokenizer
from twofold.demo.build import train as train_base
from twofold.demo.task import pairs
from twofold.models.load import ModelSettings, load_model
from twofold.progress import Progress, Silent
from twofold.records import Task
from twofold.runs.train import RunOptions, train_recipe
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler

TOKENS = 48
"""Of an answer at most; a worked one has about 28."""


@dataclass(frozen=True)
class Ground:
    """How a task's base and its data are made."""

    task: str = "shop"
    base_rows: int = 16
    width: int = 96
    layers: int = 3
    asked: int = 500
    """Problems that the base answers; what it says otherwise than the truth makes a pair."""
    heldout: int = 100
    """Of the pairs, those never trained on."""
    generator: int = 400
    reward_steps: int = 60
    reward_rate: float = 3e-4


def make_ground(folder: Path, ground: Ground, progress: Progress | None = None) -> Path:
    """The folder with `base/`, `pairs.jsonl`, `heldout.jsonl`, `generator.jsonl` and `problems.jsonl`."""
    progress = progress or Silent()
    family = TASKS[ground.task]
    wanted = json.dumps([vars(ground), repr((family.school, family.life, family.base_steps))], sort_keys=True)
    here = folder / f"{ground.task}-{sha256(wanted.encode()).hexdigest()[:8]}"
    if (here / "made.json").is_file():
        return here
    here.mkdir(parents=True, exist_ok=True)
    if not (here / "base" / "made.json").is_file():
        _make_base(here / "base", ground, progress)
    stories = Stories(ground.task)
    said = _answers(here / "base", stories.tasks("train", ground.asked), progress)
    heldout, said = said[: ground.heldout], said[ground.heldout :]
    generator = [_problem(t) for t in stories.tasks("generator", ground.generator)]
    files = {
        "pairs": said, "heldout": heldout, "generator": generator,
        "problems": [{"prompt": r["prompt"], "answer": r["chosen"]} for r in said] + generator,
    }  # fmt: skip
    for name, rows in files.items():
        (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (here / "made.json").write_text(wanted, encoding="utf-8")
    return here


def reward_model(here: Path, ground: Ground, seed: int) -> Path:
    """The folder of a reward model of the pairs, trained from the base with `seed` (Bradley–Terry)."""
    run = here / "rewards" / f"seed-{seed}"
    if not (run / "results.json").is_file():
        sections: dict[str, Any] = {
            "model": {"path": str(here / "base"), "precision": "float32"},
            "data": {"train": str(here / "pairs.jsonl"), "heldout": {"file": str(here / "heldout.jsonl")}},
            "objective": {"kind": "bradley_terry", "centring": 0.01},
            "optimizer": {"learning_rate": ground.reward_rate, "warmup": 5},
            "training": {"steps": ground.reward_steps, "batch_size": 32, "checkpoint_every": ground.reward_steps},
            "run": str(run), "seed": seed,
        }  # fmt: skip
        train_recipe(
            validate(Recipe, Document("arena", sections, {})), RunOptions(command="python -m benchmarks.arena")
        )
    return run / "model"


def digest(here: Path) -> str:
    """What identifies base and data."""
    files = [here / "base" / "model.safetensors", *(here / f"{n}.jsonl" for n in ("pairs", "generator"))]
    return sha256(b"".join(sha256(f.read_bytes()).digest() for f in files)).hexdigest()[:16]


def _make_base(folder: Path, ground: Ground, progress: Progress) -> None:
    tokenizer = character_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=ground.width,
            intermediate_size=ground.width * 8 // 3,
            num_hidden_layers=ground.layers,
            num_attention_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            initializer_range=0.04,
        )
    )
    settings = BaseSettings(steps=TASKS[ground.task].base_steps, rows=ground.base_rows, learning_rate=3e-3)
    rows = Stories(ground.task).problems("base", settings.steps * settings.rows)
    train_base(model, tokenizer, settings, progress, rows)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "made.json").write_text(json.dumps(vars(ground)), encoding="utf-8")


def _answers(base: Path, tasks: Sequence[Task], progress: Progress) -> list[Mapping[str, str]]:
    """Pairs: the worked answer over the base's own, where that is another."""
    loaded = load_model(ModelSettings(path=str(base), precision="float32"))
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    how = Sampling(max_new_tokens=TOKENS, batch_size=256)
    sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, how)
    progress.note("the base answers the training problems")
    drafts = sampler.sample([encoder.prompt(t.prompt) for t in tasks])
    found = pairs(tasks, [encoder.text(d.tokens) for (d,) in drafts])
    return [{"prompt": str(p.prompt), "chosen": p.chosen, "rejected": p.rejected} for p in found]


def _problem(task: Task) -> Mapping[str, str]:
    return {"prompt": str(task.prompt), "answer": task.answer}
