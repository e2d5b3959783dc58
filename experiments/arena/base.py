"""What every cell of the arena starts from: a base model of the task, problems, pairs and reward models, made once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from experiments.arena.tasks import TASKS, Stories
from experiments.harness.files import write_rows
from experiments.harness.models import Size, untrained
from experiments.harness.recipes import reward_sections, stage
from twofold.data.tokenize import Encoder
from twofold.demo.build import BOS, EOS, PAD, BaseSettings, character_tokenizer
from twofold.demo.build import train as train_base
from twofold.demo.task import pairs
from twofold.models.load import ModelSettings, load_model
from twofold.progress import Progress, Silent
from twofold.records import Task, text_of
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler

COMMAND = "python -m experiments.arena"
TOKENS = 48
"""Of an answer at most; a worked one has about 28."""


@dataclass(frozen=True)
class Ground:
    """How a task's base and its data are made."""

    task: str = "shop"
    base_rows: int = 16
    width: int = 96
    layers: int = 3
    answered: int = 500
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
    answers = _answers(here / "base", stories.tasks("train", ground.answered), progress)
    heldout, chosen = answers[: ground.heldout], answers[ground.heldout :]
    generator = [_problem(t) for t in stories.tasks("generator", ground.generator)]
    files = {
        "pairs": chosen, "heldout": heldout, "generator": generator,
        "problems": [{"prompt": r["prompt"], "answer": r["chosen"]} for r in chosen] + generator,
    }  # fmt: skip
    for name, rows in files.items():
        write_rows(here / f"{name}.jsonl", rows)
    (here / "made.json").write_text(wanted, encoding="utf-8")
    return here


def reward_model(here: Path, ground: Ground, seed: int) -> Path:
    """The folder of a reward model of the pairs, trained from the base with `seed` (Bradley–Terry)."""
    run = here / "rewards" / f"seed-{seed}"
    pairs, heldout = here / "pairs.jsonl", here / "heldout.jsonl"
    sections = reward_sections(here / "base", pairs, heldout, rate=ground.reward_rate, steps=ground.reward_steps)
    stage(run, {**sections, "seed": seed}, COMMAND)
    return run / "model"


def _make_base(folder: Path, ground: Ground, progress: Progress) -> None:
    tokenizer = character_tokenizer()
    size = Size(vocabulary=len(tokenizer), width=ground.width, layers=ground.layers)
    model = untrained(size, pad=PAD, bos=BOS, eos=EOS)
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
    return [{"prompt": str(p.prompt), "chosen": text_of(p.chosen), "rejected": text_of(p.rejected)} for p in found]


def _problem(task: Task) -> Mapping[str, str]:
    return {"prompt": str(task.prompt), "answer": task.answer}
