"""One cell of the comparison: a method at a learning rate with a seed, trained on the demo task and judged on it.

Every cell starts from the demo's base model, sees the same pairs in the same order and takes the same steps. It is kept
as JSON, with its weights beside it, under a name and a stamp of all that decides it: a cell done is not done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.cells import drift
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.batch import Branch, Group, Role
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.data.kinds import rows_of_kind
from twofold.data.split import split_by_prompt
from twofold.data.tokenize import Encoder
from twofold.demo.play import Size, make_data
from twofold.demo.task import tasks
from twofold.errors import NonFiniteError
from twofold.evaluation.exact_match import exact_match
from twofold.models.load import ModelSettings, load_policy
from twofold.models.packing import Packing
from twofold.models.reference import live_reference, with_reference
from twofold.objectives.base import Objective
from twofold.progress import Progress
from twofold.records import Pair, Ranking, Record, Task
from twofold.rewards.verifier import strict, truth
from twofold.runs.dataset import row_needs
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler
from twofold.statistics import mean_interval
from twofold.training.column_providers import providers
from twofold.training.optim import AdamW
from twofold.training.step import Step
from twofold.training.trainable import POLICY, Trainable

BASE = Path(__file__).resolve().parents[1] / "twofold" / "demo" / "base"
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

    objective: Objective
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.objective.kind}-{self.learning_rate:g}-{self.seed}"  # type: ignore[attr-defined]  # of the union


@dataclass
class Bench:
    """The data, the base model and its log-probabilities, made once; and a folder of finished cells."""

    folder: Path
    protocol: Protocol
    progress: Progress
    made: dict[str, list[Group]] = field(default_factory=dict[str, list[Group]])

    def __post_init__(self) -> None:
        make_data(self.folder / "data", BASE, Size(test=self.protocol.test), self.progress)
        self.policy, self.loaded = load_policy(ModelSettings(path=str(BASE), precision="float32"), 0)
        self.start = {name: p.detach().clone() for name, p in self.policy.trainable().items()}
        self.encoder = Encoder(self.loaded.tokenizer, self.loaded.stop_tokens)
        self.reference, self.packing = live_reference(self.policy), Packing()
        pairs = read(str(self.folder / "data" / "pairs.jsonl")).records
        self.held, self.train = split_by_prompt(pairs, count=None, fraction=self.protocol.heldout, seed=0)
        self.heldout = self._groups(self.held)
        self.problems, self.test = tasks("generator", self.protocol.problems), tasks("test", self.protocol.test)

    def cell(self, cell: Cell) -> dict[str, Any]:
        """Train it, or take up what was kept."""
        return self._kept(cell.name, self._stamp(cell), lambda: self._train(cell))

    def judged(self, cell: Cell | None) -> dict[str, Any]:
        """What the trained cell (the base where there is none) does on the test problems, and its KL there."""
        name = "base" if cell is None else cell.name
        return self._kept(f"{name}-judged", self._stamp(cell), lambda: self._judge(cell))

    def timed(self, cell: Cell, other: Cell, pairs: int) -> list[float]:
        """Processor seconds of steps of `cell` over those of `other` on the same prompts, taken in turns."""
        kept = self._kept(f"{cell.name}-timed", self._stamp(cell), lambda: {"ratios": self._time(cell, other, pairs)})
        return kept["ratios"]

    def _kept(self, name: str, stamp: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / "cells" / f"{name}.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["stamp"] == stamp:
                return found
        found = {"stamp": stamp, **make()}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found) + "\n", encoding="utf-8")
        temporary.replace(path)
        return found

    def _stamp(self, cell: Cell | None) -> str:
        return f"{cell} {self.protocol}"

    def _groups(self, records: Sequence[Record]) -> list[Group]:
        groups = encode(records, self.encoder, self.progress).groups
        return with_reference(groups, self.policy.logps(groups, self.packing))

    def groups(self, objective: Objective) -> list[Group]:
        """The training pairs as what `objective` learns from, with the reference's column."""
        wanted = objective.data_kind
        if wanted not in self.made:
            self._load(None)
            rows = self._rankings() if wanted == "rankings" else rows_of_kind(self.train, row_needs(objective))
            self.made[wanted] = self._groups(rows)
        return self.made[wanted]

    def _rankings(self) -> list[Record]:
        """Of each training pair: the worked answer, then a right and a wrong answer of the base where there is one."""
        sampler = self._sampler(temperature=1.0)
        prompts = [self.encoder.prompt(r.prompt) for r in self.train]
        rankings: list[Record] = []
        for record, drafts in zip(self.train, sampler.sample(prompts, samples=FURTHER, seed=(0, 1)), strict=True):
            assert isinstance(record, Pair)
            said = [record.rejected, *(self.encoder.text(d.tokens) for d in drafts)]
            own = {strict(text) == truth(record.chosen): text for text in reversed(said) if text != record.chosen}
            ordered = (record.chosen, *(own[right] for right in (True, False) if right in own))
            rankings.append(Ranking(record.prompt, ordered, record.source))
        return rankings

    def _sampler(self, temperature: float) -> LocalSampler:
        how = Sampling(temperature=temperature, max_new_tokens=TOKENS, batch_size=256)
        return LocalSampler(self.policy.model, self.loaded.tokenizer, self.loaded.stop_tokens, how)

    @torch.no_grad()
    def _load(self, path: Path | None) -> None:
        """The weights of a cell, or of the base."""
        weights = self.start if path is None else load_file(path)
        for name, parameter in self.policy.trainable().items():
            parameter.copy_(weights[name])

    def _prepared(self, cell: Cell) -> tuple[Step, OfflineAlgorithm]:
        """The base model with a fresh optimizer, before the first step."""
        groups = self.groups(cell.objective)
        self._load(None)
        adamw = AdamW(learning_rate=cell.learning_rate, schedule="constant", warmup=self.protocol.warmup)
        known = providers(self.policy, self.reference, self.packing)
        trainable = Trainable.of(POLICY, self.policy, adamw, self.protocol.steps)
        step = Step([trainable], providers=known, packing=self.packing)
        rows = self.protocol.batch_size * (2 if cell.objective.data_kind == "labels" else 1)
        played = OfflineAlgorithm(groups, cell.objective, batch_size=rows, seed=cell.seed, steps=self.protocol.steps)
        return step, played

    def _train(self, cell: Cell) -> dict[str, Any]:
        step, algorithm = self._prepared(cell)
        evaluations, spent = [{"step": 0, **self._look()}], 0.0
        self.progress.begin(cell.name, self.protocol.steps)
        for at in range(self.protocol.steps):
            began = time.process_time()
            try:
                metrics = step(algorithm.round(at, {}))
            except NonFiniteError as error:
                self.progress.end(cell.name)
                return {"failed": str(error), "evaluations": evaluations, "solved": -1}
            step.policy.on_step_end()
            spent += time.process_time() - began
            self.progress.advance(cell.name, 1, loss=metrics["loss"])
            if (at + 1) % self.protocol.evaluate_every == 0 or at + 1 == self.protocol.steps:
                evaluations.append({"step": at + 1, **self._look()})
        self.progress.end(cell.name)
        solved = exact_match(self._sampler(0.0), self.problems, self.encoder).rows
        save_file({n: p.detach() for n, p in self.policy.trainable().items()}, self._weights(cell))
        return {"evaluations": evaluations, "solved": sum(r.strict for r in solved), "cpu_seconds": spent}

    def _weights(self, cell: Cell) -> Path:
        path = self.folder / "cells" / f"{cell.name}.safetensors"
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
        rows = exact_match(self._sampler(0.0), self.test, self.encoder, progress=self.progress).rows
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
        prompts = [self.encoder.prompt(t.prompt) for t in problems]
        drafts = [d for (d,) in self._sampler(1.0).sample(prompts, seed=(1, 0))]
        groups = [
            Group(str(t.source), p, (Branch(d.tokens, Role.DRAFT),))
            for t, p, d in zip(problems, prompts, drafts, strict=True)
        ]
        mine, theirs = self.policy.logps(groups, self.packing), self.reference.logps(groups, self.packing)
        found = [(a - b).double().sum().item() for (a,), (b,) in zip(mine, theirs, strict=True)]
        return found, sum(d.truncated for d in drafts)

    def _time(self, cell: Cell, other: Cell, pairs: int) -> list[float]:
        sides: list[Callable[[int], Mapping[str, float]]] = []
        for one in (other, cell):
            step, algorithm = self._prepared(one)
            sides.append(lambda at, step=step, algorithm=algorithm: step(algorithm.round(at, {})))
        spent: list[list[float]] = [[], []]
        for at in range(pairs + 1):
            for side in (0, 1) if at % 2 else (1, 0):
                began = time.process_time()
                sides[side](at)
                spent[side].append(time.process_time() - began)
        return [mine / theirs for theirs, mine in zip(*(s[1:] for s in spent), strict=True)]
