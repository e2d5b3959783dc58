"""One cell of the comparison: a method at a learning rate with a seed, trained on the demo task and judged on it.

Every cell starts from the demo's base model, sees the same pairs in the same order and takes the same steps. Its
weights stand beside its figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from experiments.family.methods import Method
from experiments.harness.cells import Result, Store, digest, folder_name, run
from experiments.harness.models import Speaker, drift
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.batch import Group
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.data.kinds import rows_of_kind
from twofold.data.split import split_by_prompt
from twofold.demo.play import Size, make_data
from twofold.demo.task import tasks
from twofold.evaluation.exact_match import exact_match
from twofold.models.packing import Packing
from twofold.models.reference import live_reference, with_reference
from twofold.objectives.base import Objective
from twofold.progress import Silent
from twofold.records import Pair, Ranking, Record, Task, text_of
from twofold.rewards.verifier import strict, truth
from twofold.runs.dataset import row_needs
from twofold.sampling.base import Sampling
from twofold.statistics import mean_interval
from twofold.training.column_providers import providers
from twofold.training.identity import Identity
from twofold.training.optim import AdamW
from twofold.training.step import Step
from twofold.training.trainable import POLICY, Trainable
from twofold.training.trainer import Trainer, TrainingSettings

BASE = Path(str(files("twofold.demo") / "base"))
TOKENS = 64
FURTHER = 4
"""Answers of the base to each problem of a ranking."""


@dataclass(frozen=True)
class Protocol:
    """What is the same for every method."""

    steps: int = 32
    batch_size: int = 32
    """Prompts per step: 32 pairs, rankings or demonstrations, or the 64 labelled completions of 32 pairs."""
    evaluate_every: int = 4
    warmup: float = 5
    heldout: float = 0.1
    """Share of pairs never trained on: what the curves and the drift are measured on."""
    problems: int = 256
    """Problems that choose the learning rate; of no split that is trained on or tested on."""
    test: int = 500


@dataclass(frozen=True)
class Cell:
    """A method's settings at one learning rate, with one order of the data."""

    method: Method
    learning_rate: float
    seed: int


@dataclass
class Bench:
    """The data, the base model and its log-probabilities, made once; and a folder of finished cells."""

    folder: Path
    protocol: Protocol
    made: dict[str, list[Group]] = field(default_factory=dict[str, list[Group]])

    def __post_init__(self) -> None:
        make_data(self.folder / "data", BASE, Size(test=self.protocol.test), Silent())
        self.base = Speaker.load(BASE, Sampling(max_new_tokens=TOKENS, batch_size=256))
        self.policy, self.encoder = self.base.policy.requires_grad_(True), self.base.encoder
        self.start = {name: p.detach().clone() for name, p in self.policy.trainable().items()}
        self.reference, self.packing = live_reference(self.policy), Packing()
        self.store = Store(self.folder / "cells")
        pairs = read(str(self.folder / "data" / "pairs.jsonl")).records
        self.unseen, self.rows = split_by_prompt(pairs, count=None, fraction=self.protocol.heldout, seed=0)
        self.heldout = self._groups(self.unseen)
        self.problems, self.test = tasks("generator", self.protocol.problems), tasks("test", self.protocol.test)

    def name(self, cell: Cell) -> str:
        decides = f"{cell.method.objective} {cell.learning_rate} {cell.seed} {self.protocol}"
        return folder_name(cell, digest(decides))

    def judged(self, cell: Cell | None) -> Result:
        """What the trained cell (the base where there is none) does on the test problems, and its KL there."""
        name = f"base-{digest(str(self.protocol))}" if cell is None else self.name(cell)
        return self.store.result(f"{name}-judged", lambda: self._judge(cell))

    def timed(self, cell: Cell, other: Cell, pairs: int) -> list[float]:
        """Processor seconds of steps of `cell` over those of `other` on the same prompts, taken in turns."""
        name = f"{self.name(cell)}-timed"
        return self.store.result(name, lambda: {"ratios": self._time(cell, other, pairs)})["ratios"]

    def _groups(self, records: Sequence[Record]) -> list[Group]:
        groups = encode(records, self.encoder, Silent()).groups
        return with_reference(groups, self.policy.logps(groups, self.packing))

    def groups(self, objective: Objective) -> list[Group]:
        """The training pairs as what `objective` learns from, with the reference's column."""
        wanted = objective.data_kind
        if wanted not in self.made:
            self._load(None)
            rows = self._rankings() if wanted == "rankings" else rows_of_kind(self.rows, row_needs(objective))
            self.made[wanted] = self._groups(rows)
        return self.made[wanted]

    def _rankings(self) -> list[Record]:
        """Of each training pair: the worked answer, then a right and a wrong answer of the base where there is one."""
        drafted = self.base.drafts([str(r.prompt) for r in self.rows], samples=FURTHER, seed=(0, 1))
        rankings: list[Record] = []
        for record, drafts in zip(self.rows, drafted, strict=True):
            assert isinstance(record, Pair)
            chosen, answers = text_of(record.chosen), [text_of(record.rejected), *self.base.texts(drafts)]
            own = {strict(text) == truth(chosen): text for text in reversed(answers) if text != chosen}
            ordered = (chosen, *(own[right] for right in (True, False) if right in own))
            rankings.append(Ranking(record.prompt, ordered, record.source))
        return rankings

    @torch.no_grad()
    def _load(self, path: Path | None) -> None:
        """The weights of a cell, or of the base."""
        weights = self.start if path is None else load_file(path)
        for name, parameter in self.policy.trainable().items():
            parameter.copy_(weights[name])

    def _prepared(self, cell: Cell) -> Trainer:
        """The base model with a fresh optimizer, before the first step."""
        objective, steps, rows = cell.method.objective, self.protocol.steps, self.protocol.batch_size
        groups = self.groups(objective)
        self._load(None)
        adamw = AdamW(learning_rate=cell.learning_rate, schedule="constant", warmup=self.protocol.warmup)
        known = providers(self.policy, self.reference, self.packing)
        step = Step([Trainable.of(POLICY, self.policy, adamw, steps)], providers=known, packing=self.packing)
        rows *= 2 if objective.data_kind == "labels" else 1
        algorithm = OfflineAlgorithm(groups, objective, batch_size=rows, seed=cell.seed, steps=steps)
        return Trainer(
            run=self._weights(cell).parent, algorithm=algorithm, step=step, evaluators=(),
            settings=TrainingSettings(), steps=steps, identity=Identity({}), progress=Silent(),
        )  # fmt: skip

    def train(self, cell: Cell) -> Result:
        loop, first = self._prepared(cell), {"step": 0, **self._look()}
        done = run(loop, self.protocol.steps // self.protocol.evaluate_every, lambda _: self._look())
        result: Result = {"evaluations": [first, *done.looks], "solved": -1}
        if done.failed:
            return {**result, "failed": done.failed}
        answered = exact_match(self._greedy().sampler, self.problems, self.encoder).rows
        save_file({n: p.detach() for n, p in self.policy.trainable().items()}, self._weights(cell))
        return {**result, "solved": sum(r.strict for r in answered), "cpu_seconds": done.spent}

    def _greedy(self) -> Speaker:
        return replace(self.base, sampling=replace(self.base.sampling, temperature=0.0))

    def _weights(self, cell: Cell) -> Path:
        path = self.store.path(self.name(cell)).with_name("policy.safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def forget(self, cell: Cell) -> None:
        """Throw away the weights of a cell that nobody will judge."""
        self._weights(cell).unlink(missing_ok=True)

    def _look(self) -> dict[str, float]:
        """Log-ratios on held-out pairs, whatever the objective; a tie is half right. What the curves show."""
        chosen, rejected = drift(self.policy, self.heldout, self.packing)
        margin = chosen - rejected
        means = {"chosen": chosen, "rejected": rejected, "margin": margin, "accuracy": (margin.sign() + 1) / 2}
        return {name: value.mean().item() for name, value in means.items()}

    def _judge(self, cell: Cell | None) -> dict[str, Any]:
        self._load(None if cell is None else self._weights(cell))
        rows = exact_match(self._greedy().sampler, self.test, self.encoder).rows
        chosen, rejected = drift(self.policy, self.heldout, self.packing)
        kl, truncated = self._kl(self.test)
        return {
            "right": [row.strict for row in rows],
            "kl": asdict(mean_interval(kl)),
            "truncated": truncated,
            "chosen": asdict(mean_interval(chosen.tolist())),
            "rejected": asdict(mean_interval(rejected.tolist())),
        }

    def _kl(self, problems: Sequence[Task]) -> tuple[list[float], int]:
        """log π/π_ref of one own sample to each problem, whose mean is KL(π‖π_ref); how many were cut at the limit."""
        prompts = [str(t.prompt) for t in problems]
        drafts = self.base.drafts(prompts, seed=(1, 0))
        groups = self.base.groups(prompts, drafts)
        mine, theirs = self.policy.logps(groups, self.packing), self.reference.logps(groups, self.packing)
        ratios = [(a - b).double().sum().item() for (a,), (b,) in zip(mine, theirs, strict=True)]
        return ratios, sum(d.truncated for (d,) in drafts)

    def _time(self, cell: Cell, other: Cell, pairs: int) -> list[float]:
        sides: list[Callable[[int], Mapping[str, float]]] = []
        for one in (other, cell):
            loop = self._prepared(one)
            sides.append(lambda at, loop=loop: loop.step(loop.algorithm.round(at, {})))
        spent: list[list[float]] = [[], []]
        for at in range(pairs + 1):
            for side in (0, 1) if at % 2 else (1, 0):
                began = time.process_time()
                sides[side](at)
                spent[side].append(time.process_time() - began)
        return [mine / theirs for theirs, mine in zip(*(s[1:] for s in spent), strict=True)]
