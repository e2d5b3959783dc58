"""Our side: the whole loop (step, schedule, metrics.jsonl) as `twofold train` runs it, on tokens made beforehand."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM

from benchmarks.pairs import Pair, load
from benchmarks.turns import Job, Turns
from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing, bins
from twofold.models.policy import Policy
from twofold.models.reference import cached_reference, live_reference
from twofold.objectives.dpo import DPO
from twofold.progress import Silent
from twofold.training.column_providers import providers
from twofold.training.identity import Identity
from twofold.training.optim import AdamW
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable
from twofold.training.trainer import Trainer, TrainingSettings


class InOrder:
    """The algorithm `offline` without its shuffling: both sides must see the same batches."""

    def __init__(self, groups: Sequence[Group], job: Job) -> None:
        self.groups, self.size, self.objective = groups, job.batch_size, DPO(beta=job.beta)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        return Round(step, [Part(self.groups[step * self.size : (step + 1) * self.size], self.objective)])

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """Nothing to learn from what happened."""


class TakeTurns(Silent):
    """The loop's progress, which stops between steps until it is this side's turn."""

    def __init__(self, job: Job, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.turns, self.job, self.losses = Turns(settings), job, list[float]()

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        if task != "train":
            return
        if steps:
            self.losses.append(figures["loss"])
        if steps and len(self.losses) == self.job.steps:
            self.turns.answer(losses=self.losses)
            self.losses = []
        if not self.losses:
            self.turns.wait()


def groups_of(pairs: Sequence[Pair]) -> list[Group]:
    """Token lists as groups of a chosen and a rejected branch."""
    roles = {"chosen": Role.CHOSEN, "rejected": Role.REJECTED}
    return [
        Group(f"pair {i}", torch.tensor(p["prompt"]), tuple(Branch(torch.tensor(p[k]), r) for k, r in roles.items()))
        for i, p in enumerate(pairs)
    ]


def prepare(job: Job, model: str) -> tuple[Policy, Step, Sequence[Group]]:
    """The policy from the folder `model`, its step, and the groups with the reference's column where it is cached."""
    autocast = torch.bfloat16 if job.precision == "bfloat16" else None
    policy = Policy(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), autocast=autocast)
    packing, groups = Packing(), cast("Sequence[Group]", groups_of(load(job.pairs)))
    if job.reference == "cached":
        packs = [
            [at + i for i in members]
            for at in range(0, len(groups), job.batch_size)
            for members in bins(groups[at : at + job.batch_size], packing)
        ]
        groups = cached_reference(policy, groups, packs, Path(job.scratch) / "reference", Silent())
        known = {}
    else:
        known = providers(policy, live_reference(policy), packing)
    adamw = AdamW(learning_rate=job.learning_rate, schedule="constant", warmup=0.0, clip=job.clip)
    trainable = Trainable.of(POLICY, policy, adamw, job.turns * job.steps)
    return policy, Step([trainable], providers=known, packing=packing, clip=job.clip), groups


def main(job: Job) -> None:
    """Train as `job` says, with twofold's default settings beside those."""
    torch.set_num_threads(1)
    policy, step, groups = prepare(job, job.model)
    settings = {
        "reference": job.reference,
        "prompts shared": policy.shared,
        "packing tokens": step.packing.tokens,
        "batch_size": job.batch_size,
        "learning_rate": job.learning_rate,
        "schedule": "constant",
        "clip": job.clip,
        "beta": job.beta,
        "precision": job.precision,
        "activation_checkpointing": False,
    }
    steps = job.turns * job.steps
    run = Path(job.scratch) / "twofold"
    run.mkdir(parents=True, exist_ok=True)
    loop = Trainer(
        run=run,
        algorithm=InOrder(groups, job),
        step=step,
        evaluators=(),
        settings=TrainingSettings(steps=steps, checkpoint_every=steps + 1, batch_size=job.batch_size),
        steps=steps,
        identity=Identity({}),
        progress=TakeTurns(job, settings),
    )
    loop.train(resume=False)


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
